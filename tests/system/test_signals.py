"""Signals before the service is ready, while it stops, and when it is process 1."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from service.bundle.folder import Bundle
from tests.api.running import photo
from tests.system.connections import CLASSIFY, IMAGE, PATIENT, partial_request, read_all
from tests.system.processes import ROOT, WITH_SIGNALS, Service, environment, serving, started, wait_for

UNSHARE = shutil.which("unshare") or ""
TINI = shutil.which("tini") or ""
NAMESPACE = [UNSHARE, "--pid", "--fork", "--mount-proc"]


def can_unshare() -> bool:
    return bool(UNSHARE) and subprocess.run([*NAMESPACE, "true"], check=False).returncode == 0  # noqa: S603


as_process_1 = pytest.mark.skipif(
    not can_unshare(), reason="unshare is absent, or may not make a namespace of processes here"
)


@contextmanager
def launched(
    bundle: Bundle, prefix: list[str], command: list[str], **settings: object
) -> Iterator[tuple[Service, int]]:
    """Start a service through the command `prefix`; yield it, and the id of the prefix's first child."""
    with subprocess.Popen(  # noqa: S603
        [*prefix, *command],
        cwd=ROOT,
        env=environment(bundle=bundle.path, port=0, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_for(lambda: bool(children.read_text()))
        child = int(children.read_text().split()[0])
        try:
            yield Service(process), child
        finally:
            subprocess.run(["kill", "-KILL", str(child)], check=False, stderr=subprocess.DEVNULL)  # noqa: S603, S607


def send(number: signal.Signals, process: int) -> None:
    subprocess.run(["kill", f"-{number}", str(process)], check=True)  # noqa: S603, S607


def assert_stops_cleanly(service: Service, stop: Callable[[], None]) -> None:
    """Stop a service amid a request, which it answers before it exits with 0."""
    with ExitStack() as stack:
        connection = partial_request(service, stack)
        stop()
        service.line("stopping")
        connection.sendall(IMAGE[10:])
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")
        assert service.wait() == 0


def loads_a_model(process: int) -> bool:
    return ".tflite" in Path(f"/proc/{process}/maps").read_text()


SERVE = [sys.executable, "-m", "service"]


@pytest.fixture
def slow_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each service that is started prints "importing" and then hangs in its first slow import."""
    line = json.dumps({"message": "importing"})
    (tmp_path / "argparse.py").write_text(f"import time\nprint({line!r}, flush=True)\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("slow_start")
@pytest.mark.parametrize(
    ("arguments", "number", "status"),
    [
        ([], signal.SIGTERM, 0),
        (["serve"], signal.SIGTERM, 0),
        (["serve"], signal.SIGINT, 130),
        (["serve"], signal.SIGHUP, 129),
        (["benchmark"], signal.SIGINT, 130),
        (["benchmark"], signal.SIGTERM, -signal.SIGTERM),
    ],
)
def test_a_signal_during_the_imports_ends_it_without_a_traceback(
    arguments: list[str], number: signal.Signals, status: int
) -> None:
    with subprocess.Popen(  # noqa: S603
        [*WITH_SIGNALS, *SERVE, *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert b"importing" in process.stdout.readline()
        process.send_signal(number)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (status, b"")


@as_process_1
@pytest.mark.usefixtures("slow_start")
def test_as_process_1_it_ends_during_the_imports(colours: Bundle) -> None:
    with launched(colours, NAMESPACE, SERVE) as (service, process):
        assert service.line("importing")
        send(signal.SIGTERM, process)
        assert service.process.wait(60) == 0


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_signal_while_the_models_load_ends_it_at_once(number: signal.Signals, status: int) -> None:
    with started(bundle=ROOT / "models" / "imagenet-1k", port=0, variant="fp32", workers=40) as process:
        wait_for(lambda: loads_a_model(process.pid))
        assert process.poll() is None
        process.send_signal(number)
        try:
            assert process.wait(60) == status
        finally:
            process.kill()
        assert process.stdout is not None
        assert "ready" not in process.stdout.read()


def test_a_second_signal_ends_it_at_once(colours: Bundle) -> None:
    for second in (signal.SIGTERM, signal.SIGINT):
        # Without a second signal, it would drain for longer than the test waits.
        with serving(bundle=colours.path, **PATIENT) as service, ExitStack() as stack:
            partial_request(service, stack)
            service.signal(signal.SIGTERM)
            service.line("stopping")
            service.signal(second)
            assert service.wait() == 128 + second


def test_sighup_stops_it_like_sigterm(colours: Bundle) -> None:
    with serving(bundle=colours.path, **PATIENT) as service:
        assert_stops_cleanly(service, lambda: service.signal(signal.SIGHUP))


def test_under_nohup_it_ignores_sighup(colours: Bundle) -> None:
    command = ["sh", "-c", f'trap "" HUP; {sys.executable} -m service & wait']
    with launched(colours, [], command) as (service, process):
        assert service.url
        send(signal.SIGHUP, process)
        time.sleep(0.3)
        with service.client() as client:
            assert client.get("/readyz").status_code == 200


@as_process_1
def test_as_process_1_it_answers_accepted_requests_and_exits_with_0(colours: Bundle) -> None:
    with launched(colours, NAMESPACE, SERVE, **PATIENT) as (service, process):
        assert_stops_cleanly(service, lambda: send(signal.SIGTERM, process))


@as_process_1
def test_as_process_1_it_ends_while_the_models_load(default_bundle: Bundle) -> None:
    with launched(default_bundle, NAMESPACE, SERVE, variant="fp32", workers=40) as (service, process):
        wait_for(lambda: loads_a_model(process))
        send(signal.SIGTERM, process)
        assert service.wait() == 0
        assert "ready" not in str(service.log)


@pytest.mark.skipif(not TINI, reason="tini is absent")
@pytest.mark.parametrize("prefix", [[TINI, "-s", "--"], [*NAMESPACE, TINI, "--"]], ids=["child", "first"])
def test_under_an_init_that_forwards_signals_it_stops_the_same_way(
    colours: Bundle, prefix: list[str]
) -> None:
    if "--pid" in prefix and not can_unshare():
        pytest.skip("unshare may not make a namespace of processes here")
    with launched(colours, prefix, SERVE, **PATIENT) as (service, process):
        signalled = process if "--pid" in prefix else service.process.pid
        assert_stops_cleanly(service, lambda: send(signal.SIGTERM, signalled))


def test_in_the_grace_period_it_is_not_ready_but_accepts_requests(colours: Bundle) -> None:
    with serving(bundle=colours.path, drain_grace_seconds=600) as service, service.client() as client:
        assert client.get("/readyz").status_code == 200
        service.signal(signal.SIGTERM)
        service.line("stopping")
        assert client.get("/readyz").status_code == 503
        assert client.post(CLASSIFY, content=IMAGE).status_code == 200
        # On a new connection too: the port stays open.
        assert httpx.post(service.url + CLASSIFY, content=IMAGE, timeout=60).status_code == 200
        service.signal(signal.SIGTERM)


def test_a_request_from_the_grace_period_is_answered_after_it(colours: Bundle) -> None:
    for grace in (1, 10, 100):
        settings = {**PATIENT, "drain_grace_seconds": grace}
        with serving(bundle=colours.path, **settings) as service, ExitStack() as stack:
            client = stack.enter_context(service.client())
            grace_end = time.monotonic() + grace
            service.signal(signal.SIGTERM)
            service.line("stopping")
            try:
                late = partial_request(service, stack)
            except AssertionError:
                if time.monotonic() < grace_end:
                    raise
                # A correct refusal: the machine took longer than the grace period.
                continue
            wait_for(lambda client=client: client.post(CLASSIFY, content=IMAGE).status_code == 503)
            late.sendall(IMAGE[10:])
            assert read_all(late).startswith(b"HTTP/1.1 200 ")
            assert service.wait() == 0
            return
    pytest.fail("whatever the grace is, it is over at once")


def test_under_overload_a_stop_answers_all_accepted_requests(default_bundle: Bundle) -> None:
    image = photo("red", "JPEG", (1200, 900))
    settings = {"workers": 1, "queue_size": 8, "drain_seconds": 60}
    with serving(bundle=default_bundle.path, variant="qat", **settings) as service:
        answered: list[int] = []

        def ask(_: int) -> None:
            with service.client() as client:
                while True:
                    try:
                        answered.append(client.post(CLASSIFY, content=image).status_code)
                    except httpx.TransportError:
                        # The port is closed, or an idle connection, on which nothing had been accepted.
                        return

        with ThreadPoolExecutor(36) as threads:
            results = threads.map(ask, range(36))
            wait_for(lambda: min(answered.count(status) for status in (200, 429)) >= 40)
            service.signal(signal.SIGTERM)
            list(results)
        assert service.wait() == 0
    logged = [line for line in service.log if line["logger"] == "edgewise.access"]
    assert set(answered) == {200, 429, 503}
    for status in (200, 429, 503):
        assert answered.count(status) == sum(line["message"].endswith(f" {status}") for line in logged)
    assert not [line for line in logged if line["message"].endswith(" 499")]
    assert json.dumps([line for line in service.log if line["level"] != "info"]) == "[]"
