"""Faults that are made on purpose, each until its alerts fire, and then taken back until they clear."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import httpx

from service.bundle.folder import Bundle
from tests.api.running import photo
from tests.certificates import made
from tests.monitoring import boards
from tests.system.processes import ROOT, environment, serving
from tests.system.prometheus import Prometheus, Target, free_port, wait_until

CLASSIFY = "/v1/classify"
IMAGE = photo("red")
# A quarter of a second of decoding.
LARGE = photo("red", size=(4000, 3000))


@contextmanager
def asking(
    url: str, image: bytes = IMAGE, clients: int = 1, pause: float = 0.03, timeout: float = 60
) -> Iterator[None]:
    """As long as this lasts, clients post an image again and again, whatever they are answered."""

    def ask(over: threading.Event) -> None:
        with httpx.Client(base_url=url, timeout=timeout) as client:
            while not over.wait(pause):
                with suppress(httpx.TransportError):
                    client.post(CLASSIFY, content=image)

    with _meanwhile(clients, ask):
        yield


@contextmanager
def _meanwhile(count: int, work: Callable[[threading.Event], None]) -> Iterator[None]:
    """As long as this lasts, so many threads work, each until the event that it is given is set."""
    over = threading.Event()
    with ThreadPoolExecutor(count) as threads:
        working = [threads.submit(work, over) for _ in range(count)]
        try:
            yield
        finally:
            over.set()
            for future in working:
                future.result()


def too_much_is_asked_on_a_hot_board(prometheus: Prometheus, bundle: Bundle, folder: Path) -> None:
    """EdgewiseOverloaded, UnderLoad, Busy, Slow, Hot and Throttled."""
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
        with asking(service.url, LARGE, clients=8):
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
        # It stays slow: without work that is as it should be.
        with asking(service.url):
            target.wait_for_quiet()


def an_accelerator_is_missing_and_the_service_dies(prometheus: Prometheus, bundle: Bundle, _: Path) -> None:
    """EdgewiseDelegateFallback, Errors, Down and Restarting."""
    settings = {"bundle": bundle.path, "port": free_port(), "min_body_rate": 0.001, "drain_seconds": 60}
    with prometheus.watching(settings["port"]) as target:
        with (
            serving(**settings, delegate="edgetpu", delegate_fallback="cpu") as service,
            asking(service.url),
            ExitStack() as stack,
        ):
            target.wait_for("EdgewiseDelegateFallback")
            # It can't end while somebody sends, and refuses all others meanwhile.
            stack.enter_context(_unfinished(service.url))
            service.signal(signal.SIGTERM)
            target.wait_for("EdgewiseErrors")
            service.signal(signal.SIGKILL)
            target.wait_for("EdgewiseDown")
        with serving(**settings) as service, asking(service.url):
            target.wait_for_quiet()
            service.signal(signal.SIGKILL)
            service.wait()
        _restart_until_it_is_told(target, settings)
        with serving(**settings) as service, asking(service.url):
            target.wait_for_quiet()


def _restart_until_it_is_told(target: Target, settings: dict[str, Any]) -> None:
    """Have services answer one after the other, each of which dies as soon as its start was seen.

    All are ready before: where starts take long, they are few in so short a time as the rules have here.
    """
    with ExitStack() as stack:
        services = [stack.enter_context(serving(**{**settings, "port": 0})) for _ in range(3)]
        scraped = stack.enter_context(_passing_on(settings["port"]))
        last = 0.0
        for service in services:
            scraped.url = service.url
            wait_until(lambda last=last: target.started > last, lambda: "a start to be seen")
            last = target.started
            service.signal(signal.SIGKILL)
            service.wait()
        target.wait_for("EdgewiseRestarting")


class _PassingOn(ThreadingHTTPServer):
    """Passes scrapes on to whoever is at `url`."""

    url = ""


class _Scrape(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        try:
            answer = httpx.get(cast(_PassingOn, self.server).url + self.path, timeout=60)
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
def _passing_on(port: int) -> Iterator[_PassingOn]:
    with _PassingOn(("127.0.0.1", port), _Scrape) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def clients_wait_less_than_it_takes(prometheus: Prometheus, bundle: Bundle, _: Path) -> None:
    """EdgewiseClientsGone."""
    settings = {"bundle": bundle.path, "port": free_port()}
    with serving(**settings) as service, prometheus.watching(settings["port"]) as target:
        with asking(service.url, LARGE, timeout=0.05):
            target.wait_for("EdgewiseClientsGone")
        with asking(service.url):
            target.wait_for_quiet()


def a_certificate_is_renewed_late(prometheus: Prometheus, bundle: Bundle, folder: Path) -> None:
    """EdgewiseCertificateExpires."""
    pair = made(folder / "tls")
    settings = {"bundle": bundle.path, "port": free_port(), **pair.settings}
    with serving(**settings), prometheus.watching(settings["port"], "https") as target:
        target.wait_for("EdgewiseCertificateExpires")
        made(folder / "tls", days=90)
        target.wait_for_quiet()


def nobody_reads_the_log_and_senders_are_slow(prometheus: Prometheus, bundle: Bundle, _: Path) -> None:
    """EdgewiseLogLinesDropped and SlowBodies."""
    settings = {"bundle": bundle.path, "port": free_port(), "read_timeout_seconds": 0.5}
    with prometheus.watching(settings["port"]) as target:
        with _unread(**settings) as url, asking(url), _slow_senders(url, 8):
            target.wait_for("EdgewiseLogLinesDropped", "EdgewiseSlowBodies")
        with serving(**settings) as service, asking(service.url):
            target.wait_for_quiet()


@contextmanager
def _unread(**settings: object) -> Iterator[str]:
    command = [sys.executable, "-m", "service"]
    with subprocess.Popen(  # noqa: S603
        command,
        cwd=ROOT,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


@contextmanager
def _slow_senders(url: str, count: int) -> Iterator[None]:
    """As long as this lasts, so many senders begin a body, and never go on."""

    def send(over: threading.Event) -> None:
        while not over.is_set():
            with suppress(OSError), _unfinished(url) as connection:
                assert b" 408 " in connection.recv(65536)

    with _meanwhile(count, send):
        yield


@contextmanager
def _unfinished(url: str) -> Iterator[socket.socket]:
    """A connection whose request has begun: the service waits for the rest of its body."""
    where = httpx.URL(url)
    with socket.create_connection((where.host, where.port), timeout=60) as connection:
        head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(IMAGE)}\r\n\r\n"
        connection.sendall(head.encode() + IMAGE[:10])
        yield connection


class Camera:
    """Sends images one after the other, each with its label, as long as it is on.

    Where `labels_late` the label, a wrong one, comes by feedback.
    """

    def __init__(self, url: str, images: Sequence[tuple[bytes, int]]) -> None:
        self.images = images
        self.labels_late = False
        self._url = url
        self._over = threading.Event()
        self._threads = ThreadPoolExecutor(1)

    @contextmanager
    def on(self) -> Iterator["Camera"]:
        """Send as long as this lasts."""
        with self._threads:
            sent = self._threads.submit(self._send)
            try:
                yield self
            finally:
                self._over.set()
                sent.result()

    def _send(self) -> None:
        number = 0
        with httpx.Client(base_url=self._url, timeout=60) as client:
            # Shadows run where nothing comes for a while.
            while not self._over.wait(0.025):
                number += 1
                image, label = self.images[number % len(self.images)]
                if self.labels_late:
                    answer = client.post(CLASSIFY, content=image).raise_for_status().json()
                    told = {"id": answer["id"], "label": label}
                    client.post("/v1/feedback", json=told).raise_for_status()
                else:
                    client.post(CLASSIFY, content=image, params={"label": label}).raise_for_status()
