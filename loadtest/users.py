"""The clients: a camera, an app, and an inspector, who reports the true class later.

Latency counts from when a request was due. All of them wait as long as `Retry-After` says.
"""

import functools
import json
import random
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import gevent
from gevent import ssl
from locust import FastHttpUser, constant, task
from locust.exception import StopUser

from loadtest.corpus import Photo, Queue
from loadtest.options import Plan
from loadtest.pace import Pace, spread
from loadtest.refusal import REFUSED, seconds_to_wait
from loadtest.tally import Tally

CLASSIFY, FEEDBACK = "/v1/classify", "/v1/feedback"
OK = 200
# Longer than the service lets an image wait.
TIMEOUT_SECONDS = 20.0
# An app or inspector gives up after this many refusals of one photo or truth.
_TRIES = 3
# How long to wait if `Retry-After` holds no number of seconds.
_RETRY_SECONDS = 1.0
# A request that at the end has been under way for this many times the p99 goal counts as unanswered.
_LONG = 4
_NO_CLASSES = "200 without classes"


@dataclass
class Load:
    """What the users of this process share. `finish` ends the test; `number`: of the next camera."""

    plan: Plan
    photos: Queue
    tally: Tally
    finish: Callable[[], object]
    number: int = 0

    def take(self) -> Photo:
        """Return the next photo, or stop the user if there is none."""
        photo = self.photos.take()
        if photo is None:
            raise StopUser
        return photo

    def done(self) -> None:
        """Count a photo as answered, or failed for good; end the test after the last one."""
        if self.photos.done():
            self.finish()


@dataclass(frozen=True)
class Reply:
    """The result of a request. `id`: of the answer, if any; `retry_after`: seconds until the next try."""

    id: str | None = None
    latency: float = 0.0
    refused: bool = False
    retry_after: float = 0.0


@functools.cache
def _certificates(cafile: object = None) -> ssl.SSLContext:
    """Trust what Python trusts, the system's CAs or those in `SSL_CERT_FILE`, whatever file Locust names."""
    return ssl.create_default_context()


class EdgeClient(FastHttpUser):
    """Sends photos; `load` is set before the users start."""

    abstract = True
    load: Load
    # Otherwise Locust would accept any certificate, and send the API key.
    insecure = False
    ssl_context_factory = staticmethod(_certificates)
    wait_time = constant(0)
    network_timeout = TIMEOUT_SECONDS
    connection_timeout = TIMEOUT_SECONDS
    # When the current request was sent, by the monotonic clock.
    _sent: float | None = None

    def classify(self, photo: Photo, due: float, *, with_label: bool = True) -> Reply:
        """Send a photo that was due at this time of the monotonic clock, and count the result."""
        load = self.load
        try:
            content = photo.path.read_bytes()
        except OSError as error:
            # A failed request. Raised, it would be missing from the counts, and a pass would never end.
            load.tally.counts.requests += 1
            load.tally.errors[f"a photo can't be read: {error.strerror}"] += 1
            return Reply()
        label = {"label": str(photo.label)} if with_label and load.plan.truths else {}
        path = f"{CLASSIFY}?{urlencode({**load.plan.query, **label})}"
        with self._post(path, name=CLASSIFY, data=content) as response:
            latency = time.monotonic() - due
            response.request_meta["response_time"] = 1e3 * latency
            load.tally.counts.requests += 1
            if response.status_code == REFUSED:
                return self._refused(response)
            if response.status_code != OK:
                load.tally.errors[_reason(response)] += 1
                # Without an answer there are no headers.
                known = "retry-after" in (response.headers or {})
                return Reply(retry_after=_retry_after(response) if known else 0.0)
            try:
                answer = json.loads(response.content)
                id_, variant = answer["id"], answer["variant"]
                classes = [each["index"] for each in answer["predictions"]]
            except (ValueError, KeyError, TypeError):
                # Truncated, or not from the service.
                response.failure(_NO_CLASSES)
                load.tally.errors[_NO_CLASSES] += 1
                return Reply()
        load.tally.answered(latency, time.time())
        # By its content, so that copies count as one photo; a CRC, because SHA-256 would delay others.
        load.tally.labelled(variant, zlib.crc32(content), classes, photo.label)
        return Reply(id=id_, latency=latency)

    def patiently(self, send: Callable[[float], Reply]) -> Reply:
        """Send a request that is due now, and again after a refusal; latency counts from the first try."""
        due = time.monotonic()
        for _ in range(_TRIES):
            reply = send(due)
            if not reply.refused:
                return reply
            gevent.sleep(reply.retry_after)
        self.load.tally.counts.given_up += 1
        return reply

    def on_stop(self) -> None:
        """Count an unanswered request: otherwise no goal would notice a service that hangs."""
        if self._sent is None:
            return
        long = _LONG * self.load.plan.slo.p99
        if time.monotonic() - self._sent > long:
            self.load.tally.counts.requests += 1
            self.load.tally.errors[f"no answer when the test ended, after more than {long:g} s"] += 1

    def _post(self, path: str, **request: Any) -> Any:
        self._sent = time.monotonic()
        response = self.client.post(path, headers=self.load.plan.headers, catch_response=True, **request)
        # Not reached if the end of the test interrupts the request.
        self._sent = None
        return response

    def _refused(self, response: Any) -> Reply:
        # A success to Locust, but under a separate name: its time is not that of an answer.
        response.request_meta["name"] += " (429)"
        response.success()
        self.load.tally.counts.refused += 1
        return Reply(refused=True, retry_after=_retry_after(response))


class Camera(EdgeClient):
    """A camera with a fixed frame rate: frames are due at fixed times, however late earlier answers are.

    A frame is late if it is not classified before the next one is due. After a refusal the camera sends
    nothing for as long as `Retry-After` says, and drops the frames in between.
    """

    weight = 6

    def on_start(self) -> None:
        """Choose when in the period frames are due: apart from those of all other cameras, in any process."""
        period = 1 / self.load.plan.fps
        worker = max(0, getattr(self.environment.runner, "worker_index", 0))
        phase = spread(1000 * worker + self.load.number)
        self.load.number += 1
        now = time.monotonic()
        # All cameras of a machine share a clock, so their phases differ whenever each of them started.
        self._pace = Pace((now // period + 1 + phase) * period, period)
        self._under_way: float | None = None
        self._backing_off = False

    @task
    def frame(self) -> None:
        """Send the next frame when it is due."""
        due = self._pace.take()
        wait = due - time.monotonic()
        if wait > 0:
            gevent.sleep(wait)
            self.load.tally.lag.add(time.monotonic() - due)
        photo = self.load.take()
        self._under_way = due
        reply = self.classify(photo, due)
        self._under_way = None
        counts = self.load.tally.counts
        counts.frames += 1
        counts.frames_refused += reply.refused
        counts.late += not reply.refused and (reply.id is None or reply.latency > self._pace.period)
        if reply.refused:
            self.load.photos.give_back(photo)
        else:
            self.load.done()
        if reply.retry_after:
            self._back_off(reply.retry_after)

    def on_stop(self) -> None:
        """Count the frames that were due and have no answer as well."""
        super().on_stop()
        now = time.monotonic()
        overdue = self._pace.skip(now - self._pace.period)
        if self._backing_off:
            self._count_dropped(overdue)
            return
        # Without a photo left to send, no more frames were due.
        overdue = self.load.photos.skip(overdue)
        overdue += self._under_way is not None and self._under_way + self._pace.period < now
        self.load.tally.counts.frames += overdue
        self.load.tally.counts.late += overdue

    def _back_off(self, seconds: float) -> None:
        self._backing_off = True
        gevent.sleep(seconds)
        self._backing_off = False
        self._count_dropped(self._pace.skip(time.monotonic()))

    def _count_dropped(self, frames: int) -> None:
        self.load.tally.counts.frames += frames
        self.load.tally.counts.dropped += frames


class App(EdgeClient):
    """A person with a phone, who sends some photos one after another, then pauses."""

    weight = 1

    @task
    def burst(self) -> None:
        """Send some photos, then pause."""
        for _ in range(random.randint(2, 6)):  # noqa: S311
            photo = self.load.take()
            if self.patiently(functools.partial(self.classify, photo)).refused:
                self.load.photos.give_back(photo)
                break
            self.load.done()
        gevent.sleep(random.uniform(1, 4))  # noqa: S311


class Inspector(EdgeClient):
    """Sends a photo without its label, and its true class some time after the answer."""

    weight = 1

    @task
    def inspect(self) -> None:
        """Send a photo, and later its true class."""
        photo = self.load.take()
        reply = self.patiently(functools.partial(self.classify, photo, with_label=False))
        gevent.sleep(random.uniform(0.5, 2))  # noqa: S311
        if reply.refused:
            self.load.photos.give_back(photo)
            return
        if reply.id is not None and self.load.plan.truths:
            truth = {"id": reply.id, "label": photo.label}
            self.patiently(lambda _due: self._report_truth(truth))
        self.load.done()

    def _report_truth(self, truth: dict[str, Any]) -> Reply:
        counts = self.load.tally.counts
        with self._post(FEEDBACK, json=truth) as response:
            counts.requests += 1
            if response.status_code == REFUSED:
                return self._refused(response)
            if response.ok:
                counts.truths += 1
            else:
                self.load.tally.errors[f"{FEEDBACK}: {_reason(response)}"] += 1
        return Reply()


def _retry_after(response: Any) -> float:
    """Return the header's seconds; 1 if it holds a date or is absent."""
    return seconds_to_wait(response.headers.get("retry-after", "")) or _RETRY_SECONDS


def _reason(response: Any) -> str:
    """Return the status and the problem's type, or why there is no answer."""
    if not response.status_code:
        return type(response.error).__name__
    try:
        kind = json.loads(response.content)["type"]
    except (ValueError, KeyError, TypeError):
        return str(response.status_code)
    return f"{response.status_code} {kind}"
