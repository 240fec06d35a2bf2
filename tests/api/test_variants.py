from pathlib import Path

import httpx

from service.bundle import Bundle
from service.inference.evaluation import proportion
from service.manifest import Evaluation, ImageSet, Latency
from service.settings import Settings
from tests.api.running import running, samples
from tests.colours import altered

EVALUATION = Evaluation(
    dataset=ImageSet(name="some", images=4, sha256="0" * 64),
    crop="none",
    seen_images=0,
    runtime="r",
    delegate="xnnpack",
    tools={"pillow": "1"},
    top1=proportion(3, 4),
    top5=proportion(4, 4),
    ece=0.25,
    reference=True,
)
LATENCY = Latency(machine="m", runtime="r", delegate="xnnpack", runs=10, p50_seconds=0.001, p99_seconds=0.002)


def test_all_variants_of_the_bundle_are_there(client: httpx.Client, colours: Bundle) -> None:
    answer = client.get("/v1/variants").json()
    assert (answer["bundle"], answer["default"], answer["active"]) == ("colours", "ptq", "fp32")
    assert {v["name"]: v["loaded"] for v in answer["variants"]} == {
        "fp32": True,
        "int8": False,
        "ptq": False,
        "softmax": False,
    }
    for variant in answer["variants"]:
        declared = colours.variant(variant["name"])
        assert (variant["file"], variant["bytes"]) == (declared.file, declared.bytes)
        assert (variant["sha256"], variant["precision"]) == (declared.sha256, declared.precision)
        assert variant["delegate"] == ("xnnpack" if variant["loaded"] else None)
        assert (variant["runtime"] or "").startswith("ai-edge-litert ") is variant["loaded"]
        share = {"operators": 3, "taken": 3, "partitions": 1, "left": {}}
        assert variant["graph"] == (share if variant["loaded"] else None)
        assert variant["fallback"] is None
        assert variant["evaluations"] == []
        assert variant["latency"] is None


def test_what_was_measured_is_there_and_in_the_metrics(
    colours: Bundle, tmp_path: Path, settings: Settings
) -> None:
    measured = {"evaluations": (EVALUATION,), "latency": LATENCY}
    bundle = altered(colours, tmp_path / "bundle", ptq=measured)
    with running(settings.model_copy(update={"bundle": bundle.path, "variant": None})) as client:
        answer = client.get("/v1/variants").json()
        expected = samples(client)
    assert answer["active"] == "ptq"
    (ptq,) = [variant for variant in answer["variants"] if variant["name"] == "ptq"]
    assert ptq["evaluations"] == [EVALUATION.model_dump(mode="json")]
    assert ptq["latency"] == LATENCY.model_dump(mode="json")
    assert expected['edgewise_expected_accuracy_ratio{k="1",variant="ptq"}'] == 0.75
    assert expected['edgewise_expected_accuracy_ratio{k="5",variant="ptq"}'] == 1
