"""The service on tflite-runtime, in an environment of its own that is set up once."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.bundle.folder import Bundle
from tests.api.running import samples
from tests.system.classifying import CAT, CLASSIFY
from tests.system.processes import ROOT, Service, environment, one_line, run, serving

FOLDER = ROOT / ".venv-tflite"
NEWEST = "11"
# That version of XNNPACK takes int8 operators only if it is built to.
SHARES = {
    "fp32": "268 of 268 operators in 1 partition",
    "fp16": "454 of 454 operators in 1 partition",
    "ptq": "0 of 267 operators in 0 partitions",
    "qat": "0 of 267 operators in 0 partitions",
}


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of the environment with tflite-runtime."""
    if shutil.which(f"python3.{NEWEST}") is None:
        pytest.skip(f"needs Python 3.{NEWEST}, the newest that tflite-runtime is built for")
    command = [
        ROOT / "requirements" / "install",
        FOLDER.name,
        "requirements/tflite.txt",
        NEWEST,
        "about a minute",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode == 0, result.stderr
    return FOLDER / "bin" / "python"


@pytest.fixture(scope="module", params=SHARES)
def served(request: pytest.FixtureRequest, python: Path, default_bundle: Bundle) -> Iterator[Service]:
    """A service of each variant of the default bundle whose operators this runtime has."""
    with serving(python=python, bundle=default_bundle.path, variant=request.param, workers=1) as service:
        yield service


def test_it_answers_like_the_other_runtime_and_reports_its_name(served: Service, service: Service) -> None:
    with service.client() as client:
        expected = client.post(CLASSIFY, content=CAT).json()
    with served.client() as client:
        answer = client.post(CLASSIFY, content=CAT).json()
        (loaded,) = [v for v in client.get("/v1/variants").json()["variants"] if v["loaded"]]
        metrics = samples(client)
    assert answer["predictions"][0]["index"] == expected["predictions"][0]["index"]
    ready = served.line("ready")
    assert ready["graph"] == SHARES[answer["variant"]]
    assert ready["runtime"] == loaded["runtime"] == "tflite-runtime 2.14.0"
    (info,) = [name for name in metrics if name.startswith("edgewise_variant_info")]
    assert 'runtime="tflite-runtime 2.14.0"' in info
    none_taken = ready["graph"].startswith("0 ")
    assert metrics["edgewise_delegate_fallback"] == none_taken
    assert (loaded["fallback"] or "").startswith("xnnpack takes none of the 267 operators of ") is none_taken


def test_a_model_with_newer_operators_is_refused_with_advice(python: Path) -> None:
    result = run(python=python, variant="dynamic", port=0)
    assert result.returncode == 2
    reason = (
        "needs the operator FULLY_CONNECTED in version 12, which tflite-runtime 2.14.0 does not have: use"
    )
    assert f"dynamic.tflite {reason} the newest ai-edge-litert, or another variant" in one_line(result.stderr)


def test_check_reports_which_variants_run(python: Path) -> None:
    result = run("check", python=python)
    assert result.returncode == 0, result.stderr
    assert "Taken by xnnpack, under tflite-runtime 2.14.0:" in result.stdout
    assert "dynamic: does not run here: " in result.stdout
    for name, share in SHARES.items():
        assert f"\n{name}: " in result.stdout
        assert share in result.stdout


def test_every_module_of_the_service_can_be_imported(python: Path) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "service").rglob("*.py")
    ]
    program = f"import numpy; [__import__(module) for module in {modules}]; print(numpy.__version__)"
    result = subprocess.run(  # noqa: S603
        [python, "-W", "error", "-c", program],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith("1.")


def test_profiling_is_refused(python: Path, default_bundle: Bundle) -> None:
    result = run("profile", python=python, bundle=default_bundle.path)
    assert result.returncode == 2
    reason = "^edgewise: tflite-runtime .* can't read a graph's operators; install ai-edge-litert, which can$"
    assert re.search(reason, result.stderr, re.MULTILINE)
