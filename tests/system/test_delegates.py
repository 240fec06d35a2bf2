"""The service on a real external delegate, and on delegates that fail."""

from pathlib import Path

import pytest

from service.bundle.folder import Bundle
from tests.api.running import photo, samples
from tests.colours import altered
from tests.models import with_custom_operator
from tests.system.processes import one_line, run, serving


def test_an_external_delegate_serves_and_is_reported_everywhere(colours: Bundle, library: Path) -> None:
    with serving(bundle=colours.path, variant="fp32", delegate=library, workers=2) as service:
        ready = service.line("ready")
        with service.client() as client:
            answer = client.post("/v1/classify?top_k=1", content=photo("red")).json()
            (loaded,) = [v for v in client.get("/v1/variants").json()["variants"] if v["loaded"]]
            health = client.get("/readyz").json()
            metrics = samples(client)
    assert answer["predictions"][0]["label"] == "red"
    assert ready["delegate"] == str(library)
    assert ready["runtime"].startswith("ai-edge-litert ")
    assert ready["graph"] == "1 of 3 operators in 1 partition; left: DEPTHWISE_CONV_2D 1, MEAN 1"
    assert loaded["delegate"] == str(library)
    left = {"DEPTHWISE_CONV_2D": 1, "MEAN": 1}
    assert loaded["graph"] == {"operators": 3, "taken": 1, "partitions": 1, "left": left}
    assert health == {"status": "ready", "delegate": str(library), "delegate_fallback": None}
    assert metrics['edgewise_delegate_partitions{variant="fp32"}'] == 1
    assert metrics["edgewise_delegate_fallback"] == 0
    (info,) = [name for name in metrics if name.startswith("edgewise_variant_info")]
    assert f'delegate="{library}"' in info


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("refuse", "refuses with mode=refuse: no accelerator is plugged in; is its device there"),
        ("nothing", "takes none of the 3 operators of "),
        ("wrong", "does not compute its golden vectors on this device"),
        ("fail-prepare", "the accelerator is of another generation"),
        ("fail-invoke", "fails on its golden vectors: the accelerator lost power"),
        ("crash", "crashed the process that tried to load fp32 with it (SIGABRT)"),
        ("crash-invoke", "crashed the process that tried to load fp32 with it (SIGABRT)"),
    ],
)
def test_a_failing_delegate_stops_the_start_in_one_line(
    colours: Bundle, library: Path, mode: str, message: str
) -> None:
    options = f"mode={mode}"
    result = run(bundle=colours.path, variant="fp32", delegate=library, delegate_options=options, port=0)
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("INFO: ")]
    assert message in one_line("\n".join(lines))
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nonexistent/a.so", "/nonexistent/a.so: cannot open shared object file: No such"),
        ("/", "/ is a folder, not a library"),
        (__file__, "invalid ELF header"),
    ],
)
def test_a_file_that_is_no_delegate_stops_the_start_in_one_line(
    colours: Bundle, path: str, message: str
) -> None:
    result = run(bundle=colours.path, port=0, delegate=path)
    assert result.returncode == 2
    assert message in one_line(result.stderr)
    assert result.stdout == ""


def test_a_variant_for_the_edge_tpu_names_the_setting_it_needs(colours: Bundle, tmp_path: Path) -> None:
    model = with_custom_operator(colours.variant_path("fp32").read_bytes(), "edgetpu-custom-op")
    bundle = altered(colours, tmp_path / "bundle", {"fp32.tflite": model})
    result = run(bundle=bundle.path, variant="fp32", port=0)
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("INFO: ")]
    message = one_line("\n".join(lines))
    assert "fp32.tflite needs the operator edgetpu-custom-op, which neither ai-edge-litert" in message
    assert message.endswith("it was compiled for the Edge TPU: set EDGEWISE_DELEGATE=edgetpu")


def test_an_allowed_fallback_to_the_cpu_is_reported(colours: Bundle, library: Path) -> None:
    with serving(
        bundle=colours.path,
        variant="fp32",
        delegate=library,
        delegate_options="mode=crash",
        delegate_fallback="cpu",
        workers=1,
    ) as service:
        ready, warning = service.line("ready"), service.line("not running on the requested delegate")
        with service.client() as client:
            answer = client.post("/v1/classify?top_k=1", content=photo("blue")).json()
            health = client.get("/readyz").json()
            metrics = samples(client)
    assert answer["predictions"][0]["label"] == "blue"
    assert ready["delegate"] == "xnnpack"
    assert (warning["level"], warning["delegate"]) == ("warning", "xnnpack")
    assert "SIGABRT" in warning["reason"]
    assert health == {"status": "ready", "delegate": "xnnpack", "delegate_fallback": warning["reason"]}
    assert metrics["edgewise_delegate_fallback"] == 1
