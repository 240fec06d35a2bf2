"""Faults made on purpose: each lasts until its alerts fire, and is then removed until they clear."""

import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import httpx

from service.bundle.folder import Bundle
from tests.api.running import photo
from tests.certificates import make_pair
from tests.sensors import boards
from tests.system.connections import CLASSIFY, IMAGE, connected
from tests.system.processes import serving, serving_unread
from tests.system.prometheus import Prometheus, Target, free_port, wait_until
from tests.system.threads import in_threads

# Takes about a quarter of a second to decode.
LARGE = photo("red", size=(4000, 3000))


@contextmanager
def posting(
    url: str, image: bytes = IMAGE, clients: int = 1, pause: float = 0.03, timeout: float = 60
) -> Iterator[None]:
    """Post an image repeatedly from several clients during this context, whatever the answers."""

    def post(stop: threading.Event) -> None:
        with httpx.Client(base_url=url, timeout=timeout) as client:
            while not stop.wait(pause):
                with suppress(httpx.TransportError):
                    client.post(CLASSIFY, content=image)

    with in_threads(clients, post):
        yield


def overload_on_a_hot_board(prometheus: Prometheus, bundle: Bundle, folder: Path) -> None:
    """Fire EdgewiseOverloaded, UnderLoad, Busy, Slow, Hot and Throttled."""
    board = boards.write_tree(
        folder, boards.zone(0, "cpu-thermal", "91000"), boards.cpu(0, 600_000, 1_800_000)
    )
    settings = {
        "bundle": bundle.path,
        "port": free_port(),
        "workers": 1,
        "queue_size": 4,
        "variant": "fp32",
        "variant_under_load": "ptq",
        "sysfs_root": board,
    }
    with serving(**settings) as service, prometheus.watching(settings["port"]) as target:
        with posting(service.url, LARGE, clients=8):
            target.wait_for(
                "EdgewiseOverloaded",
                "EdgewiseUnderLoad",
                "EdgewiseBusy",
                "EdgewiseSlow",
                "EdgewiseHot",
                "EdgewiseThrottled",
            )
        temperature = board / "class/thermal/thermal_zone0/temp"
        temperature.write_text("60000\n")
        # The processor stays at a low frequency, which is normal without work.
        with posting(service.url):
            target.wait_for_quiet()


def missing_accelerator_and_crashes(prometheus: Prometheus, bundle: Bundle, _: Path) -> None:
    """Fire EdgewiseDelegateFallback, Errors, Down and Restarting."""
    settings = {"bundle": bundle.path, "port": free_port(), "min_body_rate": 0.001, "drain_seconds": 60}
    with prometheus.watching(settings["port"]) as target:
        with (
            serving(**settings, delegate="edgetpu", delegate_fallback="cpu") as service,
            posting(service.url),
            ExitStack() as stack,
        ):
            target.wait_for("EdgewiseDelegateFallback")
            # While this request is unfinished, the service drains and refuses all others.
            stack.enter_context(_partial_request(service.url))
            service.signal(signal.SIGTERM)
            target.wait_for("EdgewiseErrors")
            service.signal(signal.SIGKILL)
            target.wait_for("EdgewiseDown")
        with serving(**settings) as service, posting(service.url):
            target.wait_for_quiet()
            service.signal(signal.SIGKILL)
            service.wait()
        _restart_until_alert(target, settings)
        with serving(**settings) as service, posting(service.url):
            target.wait_for_quiet()


def _restart_until_alert(target: Target, settings: dict[str, Any]) -> None:
    """Forward scrapes to one service after another, and kill each once Prometheus has seen its start.

    All services start beforehand: slow starts would be too few within the shortened time of the rule.
    """
    with ExitStack() as stack:
        services = [stack.enter_context(serving(**{**settings, "port": 0})) for _ in range(3)]
        forwarder = stack.enter_context(_forwarding(settings["port"]))
        last = 0.0
        for service in services:
            forwarder.url = service.url
            wait_until(lambda last=last: target.started > last, lambda: "a start to be seen")
            last = target.started
            service.signal(signal.SIGKILL)
            service.wait()
        target.wait_for("EdgewiseRestarting")


class _Forwarder(ThreadingHTTPServer):
    """Forwards scrapes to the service at `url`."""

    url = ""


class _ScrapeHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        try:
            answer = httpx.get(cast(_Forwarder, self.server).url + self.path, timeout=60)
        except httpx.HTTPError:
            self.send_error(502)
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers["content-type"])
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _forwarding(port: int) -> Iterator[_Forwarder]:
    with _Forwarder(("127.0.0.1", port), _ScrapeHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def clients_time_out(prometheus: Prometheus, bundle: Bundle, _: Path) -> None:
    """Fire EdgewiseClientsGone."""
    settings = {"bundle": bundle.path, "port": free_port()}
    with serving(**settings) as service, prometheus.watching(settings["port"]) as target:
        with posting(service.url, LARGE, timeout=0.05):
            target.wait_for("EdgewiseClientsGone")
        with posting(service.url):
            target.wait_for_quiet()


def certificate_about_to_expire(prometheus: Prometheus, bundle: Bundle, folder: Path) -> None:
    """Fire EdgewiseCertificateExpires."""
    pair = make_pair(folder / "tls")
    settings = {"bundle": bundle.path, "port": free_port(), **pair.settings}
    with serving(**settings), prometheus.watching(settings["port"], "https") as target:
        target.wait_for("EdgewiseCertificateExpires")
        make_pair(folder / "tls", days=90)
        target.wait_for_quiet()


def unread_log_and_slow_senders(prometheus: Prometheus, bundle: Bundle, _: Path) -> None:
    """Fire EdgewiseLogLinesDropped and SlowBodies."""
    settings = {"bundle": bundle.path, "port": free_port(), "read_timeout_seconds": 0.5}
    with prometheus.watching(settings["port"]) as target:
        with serving_unread(**settings) as (_, _, url), posting(url), _slow_senders(url, 8):
            target.wait_for("EdgewiseLogLinesDropped", "EdgewiseSlowBodies")
        with serving(**settings) as service, posting(service.url):
            target.wait_for_quiet()


@contextmanager
def _slow_senders(url: str, count: int) -> Iterator[None]:
    """During this context, `count` senders begin a body and never continue it."""

    def send(stop: threading.Event) -> None:
        while not stop.is_set():
            with suppress(OSError), _partial_request(url) as connection:
                assert b" 408 " in connection.recv(65536)

    with in_threads(count, send):
        yield


@contextmanager
def _partial_request(url: str) -> Iterator[socket.socket]:
    """Yield a connection with a partial request: the service waits for the rest of the body."""
    with connected(url) as connection:
        head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(IMAGE)}\r\n\r\n"
        connection.sendall(head.encode() + IMAGE[:10])
        yield connection


class Camera:
    """Sends labelled images one after the other while it is on.

    If `labels_late`, the labels come afterwards, as feedback.
    """

    def __init__(self, url: str, images: Sequence[tuple[bytes, int]]) -> None:
        self.images = images
        self.labels_late = False
        self._url = url
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(1)

    @contextmanager
    def on(self) -> Iterator["Camera"]:
        """Send images during this context."""
        with self._threads:
            future = self._threads.submit(self._send)
            try:
                yield self
            finally:
                self._stop.set()
                future.result()

    def _send(self) -> None:
        number = 0
        with httpx.Client(base_url=self._url, timeout=60) as client:
            # Shadow runs need pauses between requests.
            while not self._stop.wait(0.025):
                number += 1
                image, label = self.images[number % len(self.images)]
                if self.labels_late:
                    answer = client.post(CLASSIFY, content=image).raise_for_status().json()
                    feedback = {"id": answer["id"], "label": label}
                    client.post("/v1/feedback", json=feedback).raise_for_status()
                else:
                    client.post(CLASSIFY, content=image, params={"label": label}).raise_for_status()
