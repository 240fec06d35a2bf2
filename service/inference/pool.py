"""Worker threads behind one bounded queue of images."""

import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from enum import Enum, auto
from queue import Empty, SimpleQueue
from time import monotonic

from service.errors import (
    BatchTooLarge,
    BodyTooLarge,
    QueueFull,
    RequestError,
    StartError,
    WaitTooLong,
)
from service.images.room import Granted, Memory, NoRoom, Room
from service.inference.job import Answer, Job, Queued, no_worker_within
from service.inference.shadow import IDLE_SECONDS, Shadow

# How long `close` waits for images in progress: longer than any takes, but not forever if one hangs.
CLOSE_SECONDS = 10.0
# The weight of each new measurement in the estimate: about the last ten count.
_SMOOTHING = 0.1


class _Signal(Enum):
    """What the queue holds for workers besides images."""

    END = auto()
    LOOK_AT_LINE = auto()


class Pool:
    """A pool of `workers` threads; images wait for them in one queue, bounded in images and in bytes.

    Each job goes to the first free worker, which runs it on its own classifier of the job's variant.
    Decoding and inference happen in the same thread, so an image changes threads only once. What a
    classifier raises reaches the caller through the future. Only one thread may submit. A worker that has
    been idle for a while runs `shadow`. If `room` has no memory to decode an image, the image waits there
    and its worker goes on with the next one.
    """

    def __init__(
        self,
        workers: int,
        *,
        queue_size: int,
        queue_bytes: int,
        room: Room[Queued] | None = None,
        shadow: Shadow | None = None,
    ) -> None:
        """Start the threads.

        Raises:
            StartError: the system does not allow that many threads.
        """
        self.queue_size = queue_size
        # Called when images are refused for lack of places or memory, which a longer deadline would not help.
        self.on_full: Callable[[], None] = lambda: None
        self._room: Room[Queued] = room or Room(math.inf)
        # A worker may be free while those that hold memory are still busy.
        self._room.on_free = lambda: self._queue.put(_Signal.LOOK_AT_LINE)
        self._shadow = shadow
        self._queue_bytes = queue_bytes
        self._queue: SimpleQueue[Queued | _Signal] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._waiting_bytes = 0
        # By variant: how many images wait for a worker or are in progress, and the seconds that one takes.
        self._owed: Counter[str] = Counter()
        self._seconds_of: dict[str, float] = {}
        # All workers' busy seconds without the images in progress, and when each worker began its own.
        self._busy_seconds = 0.0
        self._busy_since: dict[int, float] = {}
        self._threads = [
            # Daemons: a thread that hangs in an accelerator must not keep the process alive.
            threading.Thread(target=self._work, args=(number,), name=f"worker-{number}", daemon=True)
            for number in range(workers)
        ]
        for number, thread in enumerate(self._threads):
            try:
                thread.start()
            except RuntimeError:
                del self._threads[number:]
                self.close()
                raise StartError(
                    f"the system lets this process start only {number} of {workers} workers, by its limit on"
                    " threads or memory; set EDGEWISE_WORKERS lower, or raise the limit"
                ) from None

    @property
    def workers(self) -> int:
        """The number of images that are processed at once."""
        return len(self._threads)

    @property
    def waiting(self) -> int:
        """The number of images that wait for a worker, or for memory to be decoded."""
        return self._waiting

    @property
    def wait_seconds(self) -> float:
        """The estimated seconds that an image arriving now would wait for those before it."""
        with self._lock:
            if self._owed.total() < self.workers:
                return 0.0
            seconds = sum(count * self._seconds_of.get(name, 0.0) for name, count in self._owed.items())
        return seconds / self.workers

    @property
    def busy_seconds(self) -> float:
        """The seconds that all workers together have spent on images so far, without shadow runs."""
        with self._lock:
            now = monotonic()
            return self._busy_seconds + sum(now - since for since in self._busy_since.values())

    @property
    def oldest_since(self) -> float | None:
        """When the oldest image in progress was begun, by `time.monotonic`; None if there is none."""
        with self._lock:
            return min(self._busy_since.values(), default=None)

    def check(self, deadline: float, jobs: Sequence[Job] = ()) -> None:
        """Check that all of `jobs`, or an image that arrives now, get places, memory, and workers in time.

        Raises:
            BatchTooLarge: there are more of them than even an empty queue can hold.
            BodyTooLarge: they have more bytes than even an empty queue can hold.
            QueueFull: there are not enough places, or there is not enough memory, left.
            WaitTooLong: the last one would wait past its deadline.
        """
        if len(jobs) > self.queue_size:
            # If told to retry, the client would do so forever.
            raise BatchTooLarge(
                f"the request has {len(jobs)} images; the queue holds at most {self.queue_size}"
            )
        # Those in line for memory, and all others except those that workers have or are about to take.
        waiting = self._room.waiting + max(0, self._owed.total() - self.workers)
        if waiting + max(1, len(jobs)) > self.queue_size:
            self.on_full()
            raise QueueFull(
                f"{self._waiting} images are already waiting", retry_after_seconds=self._retry_after()
            )
        size = sum([job.size for job in jobs])
        if self._waiting_bytes + size > self._queue_bytes:
            raise self._no_memory(size)
        wait = self.wait_seconds + self._shadow_seconds()
        if len(jobs) > 1:
            wait += sum(self._seconds_of.get(job.variant.name, 0.0) for job in jobs[:-1]) / self.workers
        if wait and monotonic() + wait > deadline:
            raise WaitTooLong(
                f"a worker is free in about {wait:.3g} seconds, after the request's deadline",
                retry_after_seconds=self._retry_after(),
            )

    def submit(self, job: Job, *, is_checked: bool = False) -> Future[Answer]:
        """Queue an image; a future that is cancelled while it waits takes no work and gives up its place.

        The future raises DeadlineExceeded if no worker, or no memory, was free before the job's deadline.
        `is_checked`: `check` has accepted it, perhaps with others, and nothing else was submitted since.

        Raises:
            BatchTooLarge, BodyTooLarge, QueueFull, WaitTooLong: see `check`, unless `is_checked`.
        """
        # Not a second time: images in progress may since have come back to wait for memory.
        if not is_checked:
            self.check(job.deadline, [job])
        with self._lock:
            self._waiting += 1
            self._waiting_bytes += job.size
            self._owed[job.variant.name] += 1
        queued = Queued(job, self._forget)
        self._queue.put(queued)
        return queued

    def close(self) -> None:
        """Finish what is queued, then end the threads; nothing may be submitted after this.

        Threads that have not ended after `CLOSE_SECONDS` are abandoned.
        """
        for _ in self._threads:
            self._queue.put(_Signal.END)
        end = monotonic() + CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - monotonic()))

    def _forget(self, queued: Queued, job: Job) -> None:
        with self._lock:
            self._waiting -= 1
            self._waiting_bytes -= job.size
            if not queued.in_line:
                self._owed[job.variant.name] -= 1
        self._room.leave_line(queued)

    def _no_memory(self, size: int) -> BodyTooLarge | QueueFull:
        if size > self._queue_bytes:
            # If told to retry, the client would do so forever.
            return BodyTooLarge(
                f"the request has {size} bytes of images; the queue holds at most {self._queue_bytes} bytes"
            )
        self.on_full()
        return QueueFull(
            f"{self._waiting} images with {self._waiting_bytes} bytes are already waiting",
            retry_after_seconds=self._retry_after(),
        )

    def _shadow_seconds(self) -> float:
        """Return how much longer an image arriving now would wait because of a running shadow."""
        left = self._shadow.seconds_left if self._shadow is not None else 0.0
        if not left:
            return 0.0
        with self._lock:
            is_worker_free = self._owed.total() + 1 < self.workers
        return 0.0 if is_worker_free else left / self.workers

    def _retry_after(self) -> int:
        return max(1, math.ceil(self.wait_seconds))

    def _work(self, worker: int) -> None:
        while self._next(worker):
            pass

    def _next(self, worker: int) -> bool:
        """Work on one image; return False when there are no more.

        This is a separate function so that a worker that waits for the next image does not keep the
        last one and its variant alive.
        """
        called = self._room.next_in_line()
        if called is not None:
            queued, size = called
            granted = Granted(self._room, size)
            try:
                self._work_on(queued, worker, granted)
            finally:
                # The image may not have been decoded at all.
                granted.give_back()
            return True
        taken = self._take()
        if isinstance(taken, _Signal):
            return taken is not _Signal.END
        self._work_on(taken, worker, self._room)
        return True

    def _work_on(self, queued: Queued, worker: int, memory: Memory) -> None:
        """Answer an image, or put it in line for memory."""
        job = queued.begin()
        if job is None:
            return
        name = job.variant.name
        seconds: float | None = None
        size: int | None = None
        with self._lock:
            self._waiting -= 1
            self._waiting_bytes -= job.size
            if queued.in_line:
                self._owed[name] += 1
            self._busy_since[worker] = monotonic()
        try:
            seconds = _run(job, queued, worker, memory, self._shadow)
        except NoRoom as error:
            size = error.size
        with self._lock:
            self._busy_seconds += monotonic() - self._busy_since.pop(worker)
            self._owed[name] -= 1
            if size is not None:
                # It occupies no worker while it waits for memory.
                queued.in_line = True
                self._waiting += 1
                self._waiting_bytes += job.size
            if seconds is not None:
                before = self._seconds_of.get(name, seconds)
                self._seconds_of[name] = before + _SMOOTHING * (seconds - before)
        if size is not None:
            self._put_in_line(queued, job, size)

    def _put_in_line(self, queued: Queued, job: Job, size: int) -> None:
        """Make an image wait for `size` bytes of memory, as it waited for a worker."""
        if not queued.put_back(job):
            self._forget(queued, job)
            queued.set_exception(no_worker_within(monotonic() - queued.submitted))
            return
        self._room.put_in_line(queued, size)
        if queued.cancelled():
            self._room.leave_line(queued)

    def _take(self) -> Queued | _Signal:
        """Return the next image or signal; if none comes for a while, run the shadow."""
        shadow = self._shadow
        if shadow is not None and shadow.pending:
            try:
                queued = self._queue.get(timeout=IDLE_SECONDS)
            except Empty:
                shadow.run()
            else:
                shadow.drop()
                return queued
        return self._queue.get()


def _run(job: Job, queued: Queued, worker: int, memory: Memory, shadow: Shadow | None) -> float | None:
    """Classify, and set the future's result or error; return the seconds it took, None if it was not begun.

    Raises:
        NoRoom: there is no memory to decode the image; the future is not set yet.
    """
    started = monotonic()
    if started > job.deadline:
        queued.set_exception(no_worker_within(started - queued.submitted))
        return None
    try:
        prediction = job.variant.classifiers[worker].classify(job.data, job.crop, memory)
    except NoRoom:
        raise
    except BaseException as error:
        if isinstance(error, RequestError):
            # Its frames hold the image and the future, which holds the error: a cycle that stays for long.
            error.__traceback__ = error.__context__ = None
        queued.set_exception(error)
    else:
        queued.set_result(Answer(prediction, started - queued.submitted))
        if shadow is not None:
            shadow.offer(prediction)
    return monotonic() - started
