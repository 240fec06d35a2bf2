import platform
import re
import shutil
import socket
from pathlib import Path

import httpx
import pytest

from service import VERSION
from service.bundle.folder import Bundle
from tests.api.running import samples
from tests.system.processes import one_line, run, serving, started


def test_the_ready_line_has_the_url_the_variant_and_the_cost_of_the_start(colours: Bundle) -> None:
    with serving(bundle=colours.path, variant="int8", workers=3) as service:
        ready = service.line("ready")
        assert ready["message"] == f"ready: POST an image to {ready['url']}/v1/classify"
        assert ready["url"].startswith("http://127.0.0.1:")
        assert (ready["bundle"], ready["variant"], ready["workers"]) == ("colours", "int8", 3)
        assert ready["version"] == VERSION
        assert 0 < ready["seconds_since_start"] < 60
        assert ready["resident_bytes"] == pytest.approx(service.memory("VmRSS"), rel=0.2)
        with service.client() as client:
            assert client.get("/readyz").status_code == 200
            (build,) = (name for name in samples(client) if name.startswith("edgewise_build_info{"))
    labels = f'python="{platform.python_version()}",runtime="{ready["runtime"]}",version="{VERSION}"'
    assert build == f"edgewise_build_info{{{labels}}}"


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6")
def test_it_listens_on_ipv6_too(colours: Bundle) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no address ::1")
    with serving(bundle=colours.path, host="::1") as service:
        assert service.url.startswith("http://[::1]:")
        assert httpx.get(f"{service.url}/livez", timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "nope"}, "has no variant 'nope'; it has: fp32, int8, ptq, softmax"),
        ({"workers": "two"}, "EDGEWISE_WORKERS is 'two', but it should be a valid integer"),
        ({"bundle": "/nonexistent"}, "EDGEWISE_BUNDLE, or the command, must name a bundle's folder"),
        ({"host": "192.0.2.1"}, "can't listen on 192.0.2.1:0: "),
        ({"host": "no.such.host.invalid"}, "can't listen on no.such.host.invalid:0: "),
        ({"host": "a..b"}, "can't listen on a..b:0: not a valid host name; "),
        ({"bundle": "/no\nfolder"}, "/no folder/manifest.json: No such file"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_unusable_setting_stops_the_start_in_one_line(
    colours: Bundle, settings: dict[str, str], message: str
) -> None:
    result = run(**{"bundle": colours.path, "port": 0, **settings})
    assert result.returncode == 2
    assert message in one_line(result.stderr)
    assert result.stdout == ""


def test_a_port_in_use_is_reported(colours: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("serve", bundle=colours.path, port=port)
    assert result.returncode == 2
    assert one_line(result.stderr).startswith(f"can't listen on 127.0.0.1:{port}: ")


def test_a_damaged_model_is_reported(colours: Bundle, tmp_path: Path) -> None:
    bundle = shutil.copytree(colours.path, tmp_path / "bundle")
    model = bundle / "ptq.tflite"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    result = run(bundle=bundle, port=0)
    assert result.returncode == 2
    assert "ptq.tflite is not the file that the manifest names" in one_line(result.stderr)


def test_the_log_can_be_plain_text(colours: Bundle) -> None:
    with started(bundle=colours.path, port=0, log_format="text") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        process.communicate(timeout=60)
    assert re.match(r"\S+ INFO +ready: POST an image to http://127\.0\.0\.1:\d+/v1/classify  url=", line)
    assert process.returncode == 0
