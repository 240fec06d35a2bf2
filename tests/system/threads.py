"""Work in several threads while a test goes on."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def in_threads(count: int, work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `work` in `count` threads during this context; each returns once its event is set."""
    stop = threading.Event()
    with ThreadPoolExecutor(count) as threads:
        futures = [threads.submit(work, stop) for _ in range(count)]
        try:
            yield
        finally:
            stop.set()
            for future in futures:
                future.result()
