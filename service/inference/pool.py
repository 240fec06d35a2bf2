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

# What the images in work get at the end: longer than any takes, but not for ever where one hangs.
CLOSE_SECONDS = 10.0
# How much of the estimate each new measurement replaces: about the last ten count.
_SMOOTHING = 0.1


class _Signal(Enum):
    """What the queue has for a worker beside images."""

    END = auto()
    LOOK_AT_LINE = auto()


class Pool:
    """`workers` threads; images wait for them in one queue, bounded in images and in bytes.

    Each job goes to the first worker that is free, which runs it on its own classifier of the job's
    variant. Decode and inference happen in the same thread, so an image crosses threads once. What
    a classifier raises reaches the caller through the future. One thread alone may submit. A worker that
    has had nothing to do for a while runs `shadow`. An image that finds no memory in `room` to be decoded
    in waits there, and its worker goes on with the next one.
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
            StartError: the system does not let so many start.
        """
        self.queue_size = queue_size
        # Called where images are refused for want of places or memory, which a longer deadline does not mend.
        self.on_full: Callable[[], None] = lambda: None
        self._room: Room[Queued] = room or Room(math.inf)
        self._shadow = shadow
        self._queue_bytes = queue_bytes
        self._queue: SimpleQueue[Queued | _Signal] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._waiting_bytes = 0
        # By variant: how many wait for a worker or are worked on, and the seconds that one takes.
        self._owed: Counter[str] = Counter()
        self._seconds_of: dict[str, float] = {}
        # All workers' seconds at work, but for the images in work: by worker, since when.
        self._busy_seconds = 0.0
        self._busy_since: dict[int, float] = {}
        self._threads = [
            # Daemons: one that an accelerator never gives back must not keep the process.
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
                    f"the system lets this process start {number} of {workers} workers, by a limit of threads"
                    " or memory; set EDGEWISE_WORKERS to fewer, or raise the limit"
                ) from None

    @property
    def workers(self) -> int:
        """How many images are worked on at once."""
        return len(self._threads)

    @property
    def waiting(self) -> int:
        """How many images wait for a worker, or for memory to be decoded in."""
        return self._waiting

    @property
    def wait_seconds(self) -> float:
        """How long an image that came now would wait for those before it, as things are expected to go."""
        with self._lock:
            if self._owed.total() < self.workers:
                return 0.0
            seconds = sum(count * self._seconds_of.get(name, 0.0) for name, count in self._owed.items())
        return seconds / self.workers

    @property
    def busy_seconds(self) -> float:
        """Seconds that all workers together were at work on images until now; shadows don't count."""
        with self._lock:
            now = monotonic()
            return self._busy_seconds + sum(now - since for since in self._busy_since.values())

    @property
    def oldest_since(self) -> float | None:
        """Since when the image that is in work longest is, as `time.monotonic` has it; None where none is."""
        with self._lock:
            return min(self._busy_since.values(), default=None)

    def check(self, deadline: float, jobs: Sequence[Job] = ()) -> None:
        """Whether all of `jobs`, or an image that comes now, find places, memory, and workers in time.

        Raises:
            BatchTooLarge: they are more than may wait, whatever else does.
            BodyTooLarge: they have more bytes than there is memory for, whatever else waits.
            QueueFull: there are not so many places left, or not so much memory.
            WaitTooLong: the last one would wait longer than it can.
        """
        if len(jobs) > self.queue_size:
            # Told to come again, it would do so for ever.
            raise BatchTooLarge(f"it has {len(jobs)} images; the most that may wait are {self.queue_size}")
        # Beside those in line for memory, all wait but those that workers have or are about to take.
        waiting = self._room.waiting + max(0, self._owed.total() - self.workers)
        if waiting + max(1, len(jobs)) > self.queue_size:
            self.on_full()
            raise QueueFull(f"{self._waiting} images wait already", retry_after_seconds=self._retry_after())
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
        """Queue an image; a future that is cancelled while it waits costs no work, and no place.

        The future raises DeadlineExceeded where no worker, or no memory, was free before the job's deadline.
        `is_checked`: `check` has let it in, perhaps with others, and nothing else was submitted since.

        Raises:
            BatchTooLarge, BodyTooLarge, QueueFull, WaitTooLong: as `check` says, unless it is checked.
        """
        # Not a second time: what is in work may have come back meanwhile, to wait for memory.
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
        """Finish what is queued, then end the threads; nothing may be submitted any more.

        Those that have not ended after `CLOSE_SECONDS` are left to themselves.
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
        if self._room.leave_line(queued):
            self._queue.put(_Signal.LOOK_AT_LINE)

    def _no_memory(self, size: int) -> BodyTooLarge | QueueFull:
        if size > self._queue_bytes:
            # Told to come again, it would do so for ever.
            return BodyTooLarge(
                f"it has {size} bytes to work on, more than all that wait may have: {self._queue_bytes}"
            )
        self.on_full()
        return QueueFull(
            f"{self._waiting} images of {self._waiting_bytes} bytes wait already",
            retry_after_seconds=self._retry_after(),
        )

    def _shadow_seconds(self) -> float:
        """How much longer an image that came now would wait because of the shadow that runs."""
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
        """Work on one image; False where there are no more.

        A function of its own, so that a worker that waits for the next image does not hold the last
        one and its variant.
        """
        called = self._room.next_in_line()
        if called is not None:
            queued, size = called
            if self._room.waiting:
                # Another one may fit as well, and another worker be free.
                self._queue.put(_Signal.LOOK_AT_LINE)
            granted = Granted(self._room, size)
            try:
                self._work_on(queued, worker, granted)
            finally:
                # It may not have been decoded at all.
                granted.give_back()
            return True
        taken = self._take()
        if isinstance(taken, _Signal):
            return taken is not _Signal.END
        self._work_on(taken, worker, self._room)
        return True

    def _work_on(self, queued: Queued, worker: int, memory: Memory) -> None:
        """Answer it, or put it in line for memory."""
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
                # It keeps no worker from others while it waits for memory.
                queued.in_line = True
                self._waiting += 1
                self._waiting_bytes += job.size
            if seconds is not None:
                before = self._seconds_of.get(name, seconds)
                self._seconds_of[name] = before + _SMOOTHING * (seconds - before)
        if size is not None:
            self._put_in_line(queued, job, size)

    def _put_in_line(self, queued: Queued, job: Job, size: int) -> None:
        """Have it wait for so much memory, as it waited for a worker."""
        if not queued.put_back(job):
            self._forget(queued, job)
            queued.set_exception(no_worker_within(monotonic() - queued.submitted))
            return
        self._room.put_in_line(queued, size)
        if queued.cancelled():
            self._room.leave_line(queued)

    def _take(self) -> Queued | _Signal:
        """The next image, or signal; if none comes for a while, the shadow runs."""
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
    """Classify, and give the result or the error to its future; the seconds that it took if it was begun.

    Raises:
        NoRoom: there is no memory to decode it in; the future has nothing yet.
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
            # Its frames hold the image, and the future that holds it: both would stay for long.
            error.__traceback__ = error.__context__ = None
        queued.set_exception(error)
    else:
        queued.set_result(Answer(prediction, started - queued.submitted))
        if shadow is not None:
            shadow.offer(prediction)
    return monotonic() - started
