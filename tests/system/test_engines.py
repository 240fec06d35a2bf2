"""What `python -m tests.bench.engines` measures and reports; only LiteRT is in this environment."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from build.packing import pack
from service.bundle.folder import load_bundle
from service.inference.classifier import Classifier, softmax
from service.inference.golden import read_golden_vectors
from service.settings import DEFAULT_BUNDLE
from tests.bench.engines.candidates import Candidate, of_bundle
from tests.bench.engines.engine import Engine
from tests.bench.engines.measure import TURN, answers, latencies, quality, size
from tests.bench.engines.report import OURS, quality_table, speed_table, verdict
from tests.bench.engines.runner import ROOT, Memory
from tests.bench.markdown import table

OTHER = "Other int8"


@pytest.fixture(scope="module")
def lite() -> dict[str, Candidate]:
    candidates = of_bundle(load_bundle(DEFAULT_BUNDLE))
    return {candidate.name: candidate for candidate in candidates if candidate.engine is Engine.LITERT}


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "pixels.npy"
    np.save(path, read_golden_vectors(load_bundle(DEFAULT_BUNDLE), "fp32").pixels)
    return path


@pytest.mark.parametrize("variant", ["fp32", "ptq", "qat"])
def test_it_answers_as_the_service_does(
    lite: dict[str, Candidate], pixels: Path, tmp_path: Path, variant: str
) -> None:
    answered = answers(lite[f"LiteRT {variant}"], pixels, pixels, tmp_path / "logits.npy")
    classifier = Classifier(load_bundle(DEFAULT_BUNDLE), variant)
    expected = np.stack([classifier.probabilities(photo) for photo in np.load(pixels)])
    np.testing.assert_allclose(answered.probabilities, expected, rtol=1e-5, atol=1e-7)
    assert 0 < answered.memory.pss <= answered.memory.rss


def test_all_candidates_take_turns_with_one_thread_and_two(lite: dict[str, Candidate], pixels: Path) -> None:
    seconds = latencies(list(lite.values()), pixels, rounds=2)
    assert set(seconds) == {(name, threads) for name in lite for threads in (1, 2)}
    assert {len(found) for found in seconds.values()} == {2 * TURN}
    assert min(map(min, seconds.values())) > 0


def test_a_failing_engine_is_reported(lite: dict[str, Candidate], pixels: Path, tmp_path: Path) -> None:
    (tmp_path / "no.tflite").write_bytes(b"no model")
    broken = Candidate("broken", Engine.LITERT, (tmp_path / "no.tflite",))
    with pytest.raises(SystemExit, match=r"no\.tflite .* exited; see above"):
        answers(broken, pixels, pixels, tmp_path / "logits.npy")


def test_a_process_loads_no_engine_but_its_own() -> None:
    program = "import sys, tests.bench.engines.runner; print(*sys.modules)"
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert "numpy" in loaded
    assert loaded & {"ai_edge_litert", "onnxruntime", "openvino", "tensorflow", "pydantic", "PIL"} == set()


def test_the_size_is_that_of_all_files(tmp_path: Path) -> None:
    files = (tmp_path / "a", tmp_path / "b")
    for path in files:
        path.write_bytes(bytes(1000))
    found = size(Candidate("two", Engine.OPENVINO, files))
    assert found.bytes == 2000
    assert found.packed == 2 * len(pack(bytes(1000)))


def test_the_claim_must_hold_with_one_thread_and_with_two() -> None:
    ours = {(OURS, 1): [2.0, 2.0, 9.0], (OURS, 2): [1.0]}
    held = verdict({**ours, (OTHER, 1): [3.2], (OTHER, 2): [1.5]}, [OTHER])
    assert held == (
        f"- {OURS} is 1.60 times with 1 thread and 1.50 times with 2 threads as fast as {OTHER}:"
        " the claim of 1.5 holds."
    )
    missed = verdict({**ours, (OTHER, 1): [3.2], (OTHER, 2): [1.4]}, [OTHER])
    assert missed.endswith("1.40 times with 2 threads as fast as Other int8: the claim of 1.5 does not hold.")


def test_the_tables_have_the_numbers() -> None:
    probabilities = softmax(np.array([[3, 1, 0, 0, 0, 0], [1, 3, 0, 0, 0, 0]], np.float32))
    others = probabilities[[0, 0]]
    labels = np.array([0, 1])
    qualities = {
        name: quality(probabilities, p, labels) for name, p in ((OURS, probabilities), (OTHER, others))
    }
    candidates = quality_table(
        qualities, dict.fromkeys(qualities, size(Candidate("this", Engine.OPENVINO, (Path(__file__),))))
    )
    ours, other = candidates.splitlines()[2:]
    assert ours.startswith(
        f"| {OURS} | 100.00 (34.2–100.0) | 100.00 (34.2–100.0) | 100.00 (34.2–100.0) | 0.0000 ± 0.0000 |"
    )
    assert other.startswith(f"| {OTHER} | 50.00 (9.5–90.5) | 100.00 (34.2–100.0) | 50.00 (9.5–90.5) | ")
    assert float(re.split(r" \| ", other)[4].split()[0]) > 0.5

    seconds = {(OURS, 1): [0.002], (OURS, 2): [0.001], (OTHER, 1): [0.004], (OTHER, 2): [0.003]}
    memories = {OURS: Memory(90_000_000, 80_000_000), OTHER: Memory(200_000_000, 190_000_000)}
    rows = speed_table(seconds, memories).splitlines()[2:]
    assert rows == [
        f"| {OURS} | 2.00 | 2.00 | 1.00 | 1.00 | 1.00 | 1.00 | 90 | 80 |",
        f"| {OTHER} | 4.00 | 4.00 | 2.00 | 3.00 | 3.00 | 3.00 | 200 | 190 |",
    ]


def test_a_table_has_as_many_columns_in_every_row() -> None:
    assert table(["", "a"], [["x", "1"]]) == "|  | a |\n| --- | --: |\n| x | 1 |"
