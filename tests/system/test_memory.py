"""The service's memory when everything that costs memory comes at once."""

import http.client
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

from PIL import Image

from service.bundle.folder import Bundle
from tests.system.classifying import CAT
from tests.system.processes import serving

SECONDS = 12
# The limit on a slow machine, which needs longer for enough answers.
MAX_SECONDS = 60
CLIENTS_EACH = 40
# docs/settings.md states this for the default settings and one worker.
MAX_BYTES = 256 * 1024 * 1024

Until = Callable[[], bool]


def photos() -> list[bytes]:
    """Return a small photo, and one of 12 megapixels as a baseline and as a progressive JPEG."""
    files = [CAT]
    with Image.open(BytesIO(CAT)) as image:
        large = image.convert("RGB").resize((4000, 3000))
    for progressive in (False, True):
        file = BytesIO()
        large.save(file, "JPEG", quality=92, progressive=progressive)
        files.append(file.getvalue())
    return files


def send_a_large_body_slowly(port: int, is_over: Until) -> None:
    while not is_over():
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                head = b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: 19000000\r\n\r\n"
                connection.sendall(head + bytes(3_000_000))
                while not is_over():
                    connection.sendall(bytes(20_000))
                    time.sleep(0.5)
        except OSError:
            # The service closed the connection in favour of others, so connect again.
            time.sleep(0.1)


def send_photos(port: int, is_over: Until, files: list[bytes], statuses: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    while not is_over():
        for file in files:
            connection.request("POST", "/v1/classify", file)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
            if answer.status == 429:
                time.sleep(0.05)
    connection.close()


def test_memory_stays_within_the_documented_bound_under_heavy_load(default_bundle: Bundle) -> None:
    files = photos()
    statuses: list[int] = []
    # No request may time out: how long they wait depends on the machine.
    settings = {"bundle": default_bundle.path, "workers": 1, "request_timeout_seconds": 600}
    with serving(**settings) as service, ThreadPoolExecutor(2 * CLIENTS_EACH) as threads:
        port = service.port
        ends = time.monotonic() + SECONDS

        def is_over() -> bool:
            late = time.monotonic() - ends
            return late > 0 and (min(map(statuses.count, (200, 429))) > 10 or late > MAX_SECONDS)

        work = [threads.submit(send_a_large_body_slowly, port, is_over) for _ in range(CLIENTS_EACH)]
        work += [threads.submit(send_photos, port, is_over, files, statuses) for _ in range(CLIENTS_EACH)]
        for future in work:
            future.result()
        peak = service.memory()
    assert set(statuses) == {200, 429}
    assert min(map(statuses.count, (200, 429))) > 10
    assert peak < MAX_BYTES


def test_workers_share_the_memory_limit_for_decoding(colours: Bundle) -> None:
    file = BytesIO()
    side = 2600
    Image.effect_noise((side, side), 20).convert("RGB").save(file, "PNG", compress_level=1)
    each = 8 * side * side  # The service's own estimate.
    statuses: list[int] = []
    settings = {"workers": 4, "max_decode_bytes": each + 1000, "request_timeout_seconds": 600}
    with serving(bundle=colours.path, **settings) as service:
        with service.client() as client:
            client.post("/v1/classify", content=file.getvalue())
            alone = service.memory()
        ends = time.monotonic() + 6

        def is_over() -> bool:
            return time.monotonic() > ends

        with ThreadPoolExecutor(4) as threads:
            arguments = (service.port, is_over, [file.getvalue()], statuses)
            for future in [threads.submit(send_photos, *arguments) for _ in range(4)]:
                future.result()
        peak = service.memory()
    assert set(statuses) == {200}
    # Plus the four files. With a limit per worker, memory would grow three times as much.
    assert peak - alone < each + 4 * len(file.getvalue())
