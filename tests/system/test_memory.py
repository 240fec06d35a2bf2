"""How much memory the service takes where all that costs memory comes at once."""

import http.client
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

from PIL import Image

from service.bundle.folder import Bundle
from tests.system.processes import ROOT, serving

SECONDS = 12
EACH = 40
# docs/settings.md says so, of the default settings and one worker.
MOST_BYTES = 256 * 1024 * 1024

Until = Callable[[], bool]


def photos() -> list[bytes]:
    """Twelve megapixels, in a progressive JPEG too, and a small one."""
    small = (ROOT / "tests" / "data" / "cat.jpg").read_bytes()
    files = [small]
    with Image.open(BytesIO(small)) as image:
        large = image.convert("RGB").resize((4000, 3000))
    for progressive in (False, True):
        file = BytesIO()
        large.save(file, "JPEG", quality=92, progressive=progressive)
        files.append(file.getvalue())
    return files


def send_a_large_body_slowly(port: int, over: Until) -> None:
    while not over():
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                head = b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: 19000000\r\n\r\n"
                connection.sendall(head + bytes(3_000_000))
                while not over():
                    connection.sendall(bytes(20_000))
                    time.sleep(0.5)
        except OSError:
            # It gave way to others, and comes again.
            time.sleep(0.1)


def send_photos(port: int, over: Until, files: list[bytes]) -> Counter[int]:
    statuses: Counter[int] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while not over():
        for file in files:
            connection.request("POST", "/v1/classify", file)
            answer = connection.getresponse()
            answer.read()
            statuses[answer.status] += 1
            if answer.status == 429:
                time.sleep(0.05)
    connection.close()
    return statuses


def test_memory_stays_within_the_bound_whatever_comes_at_once(default_bundle: Bundle) -> None:
    files = photos()
    with serving(bundle=default_bundle.path, workers=1) as service, ThreadPoolExecutor(2 * EACH) as threads:
        port = service.port
        ends = time.monotonic() + SECONDS

        def over() -> bool:
            return time.monotonic() > ends

        slow = [threads.submit(send_a_large_body_slowly, port, over) for _ in range(EACH)]
        fast = [threads.submit(send_photos, port, over, files) for _ in range(EACH)]
        statuses = sum((future.result() for future in fast), Counter())
        for future in slow:
            future.result()
        peak = service.memory()
    assert set(statuses) == {200, 429}
    assert min(statuses.values()) > 10
    assert peak < MOST_BYTES


def test_workers_share_what_decoding_may_take(colours: Bundle) -> None:
    file = BytesIO()
    side = 2600
    Image.effect_noise((side, side), 20).convert("RGB").save(file, "PNG", compress_level=1)
    each = 8 * side * side  # As the service reckons.
    with serving(bundle=colours.path, workers=4, max_decode_bytes=each + 1000) as service:
        with service.client() as client:
            client.post("/v1/classify", content=file.getvalue())
            alone = service.memory()
        ends = time.monotonic() + 6
        with ThreadPoolExecutor(4) as threads:
            work = [
                threads.submit(send_photos, service.port, lambda: time.monotonic() > ends, [file.getvalue()])
                for _ in range(4)
            ]
            statuses = sum((future.result() for future in work), Counter())
        peak = service.memory()
    assert set(statuses) == {200}
    # And the four files. By each worker's own leave it would be three times as much more.
    assert peak - alone < each + 4 * len(file.getvalue())
