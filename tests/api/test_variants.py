import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.bundle.folder import Bundle
from service.bundle.manifest import Comparison, Latency
from service.measuring.evaluation import proportion
from service.settings import Settings
from tests.api.running import photo, running, samples
from tests.colours import altered
from tests.evaluated import evaluation

BASELINE = Comparison(against="fp32", agreement=proportion(4, 4), kl_nats=0.1, lost=1, won=0)
OTHER = BASELINE.model_copy(update={"against": "int8"})
EVALUATION = evaluation(3).model_copy(update={"tools": {"pillow": "1"}, "comparisons": (OTHER, BASELINE)})
NO_REFERENCE = EVALUATION.model_copy(update={"reference": False})
LATENCY = Latency(machine="m", runtime="r", delegate="xnnpack", runs=10, p50_seconds=0.001, p99_seconds=0.002)


def test_all_variants_of_the_bundle_are_listed(client: httpx.Client, colours: Bundle) -> None:
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
        assert variant["wire"] is None
        assert variant["delegate"] == ("xnnpack" if variant["loaded"] else None)
        assert (variant["runtime"] or "").startswith("ai-edge-litert ") is variant["loaded"]
        share = {"operators": 3, "taken": 3, "partitions": 1, "left": {}}
        assert variant["graph"] == (share if variant["loaded"] else None)
        assert variant["fallback"] is None
        assert variant["evaluations"] == []
        assert variant["latency"] is None


def test_measured_values_are_listed_and_in_the_metrics(
    colours: Bundle, tmp_path: Path, settings: Settings
) -> None:
    measured = {"evaluations": (NO_REFERENCE, EVALUATION), "latency": LATENCY}
    bundle = altered(colours, tmp_path / "bundle", ptq=measured)
    with running(settings.model_copy(update={"bundle": bundle.path, "variant": None})) as client:
        answer = client.get("/v1/variants").json()
        expected = samples(client)
    assert answer["active"] == "ptq"
    (ptq,) = [variant for variant in answer["variants"] if variant["name"] == "ptq"]
    (listed,) = ptq["evaluations"]
    assert listed == {
        "dataset": {"name": "some", "images": 4},
        "crop": "none",
        "top1": EVALUATION.top1.model_dump(mode="json"),
        "top5": EVALUATION.top5.model_dump(mode="json"),
        "ece": 0.25,
        "comparisons": [BASELINE.model_dump(mode="json")],
        "reference": True,
    }
    assert ptq["latency"] == LATENCY.model_dump(mode="json")
    assert expected['edgewise_expected_accuracy_ratio{k="1",variant="ptq"}'] == 0.75
    assert expected['edgewise_expected_accuracy_ratio{k="5",variant="ptq"}'] == 1


TOKEN = "0123456789abcdef-._~+/"  # noqa: S105
ACTIVE = "/v1/variants/active"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def switchable(
    settings: Settings, colours: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of a service that has a token, `ptq` loaded beside `fp32`, and a damaged `int8`."""
    folder = tmp_path_factory.mktemp("switchable")
    (folder / "token").write_text(TOKEN + "\n")
    bundle = shutil.copytree(colours.path, folder / "bundle")
    (bundle / "int8.tflite").write_bytes(b"something else")
    update = {"bundle": bundle, "admin_token_file": folder / "token", "loaded_variants": ("ptq",)}
    with running(settings.model_copy(update=update)) as client:
        yield client


def put(client: httpx.Client, variant: str, **headers: str) -> httpx.Response:
    return client.put(ACTIVE, json={"variant": variant}, headers=headers or BEARER)


def test_a_loaded_variant_can_be_requested(switchable: httpx.Client) -> None:
    for variant in ("fp32", "ptq"):
        answer = switchable.post(f"/v1/classify?variant={variant}", content=photo("red"))
        assert answer.json()["variant"] == variant
    answer = switchable.post("/v1/classify?variant=softmax", content=photo("red"))
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/variant-not-loaded")
    exposed = samples(switchable)
    assert exposed['edgewise_variant_active{variant="fp32"}'] == 1
    assert exposed['edgewise_variant_active{variant="ptq"}'] == 0
    assert exposed["edgewise_under_load"] == 0


def test_a_switch_answers_with_the_list_and_changes_the_next_answer(switchable: httpx.Client) -> None:
    assert switchable.get("/v1/variants").json()["switchable"] is True
    response = put(switchable, "softmax")
    assert response.status_code == 200
    assert response.json() == switchable.get("/v1/variants").json()
    assert response.json()["active"] == "softmax"
    loaded = [variant["name"] for variant in response.json()["variants"] if variant["loaded"]]
    assert loaded == ["ptq", "softmax"]
    assert switchable.post("/v1/classify", content=photo("red")).json()["variant"] == "softmax"
    assert put(switchable, "softmax").json()["active"] == "softmax"
    assert put(switchable, "fp32").json()["active"] == "fp32"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer \xe9\xff"},
        {"X-Token": TOKEN},
    ],
)
def test_without_the_token_nothing_is_switched(switchable: httpx.Client, headers: dict[str, str]) -> None:
    given = {name: value.encode("latin-1") for name, value in headers.items()}
    response = switchable.put(ACTIVE, json={"variant": "ptq"}, headers=given)
    assert (response.status_code, response.json()["type"]) == (401, "/problems/unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in response.text
    assert switchable.get("/v1/variants").json()["active"] == "fp32"


def test_switching_is_disabled_without_a_token(client: httpx.Client) -> None:
    assert client.get("/v1/variants").json()["switchable"] is False
    response = put(client, "ptq")
    assert (response.status_code, response.json()["type"]) == (403, "/problems/switching-disabled")
    assert "EDGEWISE_ADMIN_TOKEN_FILE" in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "code", "detail"),
    [
        (b'{"variant": "nope"}', 404, "unknown-variant", "no variant 'nope'; it has: fp32, int8, ptq"),
        (b'{"variant": "int8"}', 500, "unusable-variant", "int8.tflite has 14 bytes, but the manifest says"),
        (b"", 422, "bad-parameter", '{"variant": "NAME"}'),
        (b"fp32", 422, "bad-parameter", '{"variant": "NAME"}'),
        (b'{"variant": 1}', 422, "bad-parameter", '{"variant": "NAME"}'),
        (b'{"variant": "ptq", "force": true}', 422, "bad-parameter", '{"variant": "NAME"}'),
        (b'{"variant": "' + b"x" * 65 + b'"}', 422, "bad-parameter", '{"variant": "NAME"}'),
        (bytes(200_001), 413, "body-too-large", "200000 bytes"),
    ],
)
def test_an_impossible_switch_is_refused_with_the_reason(
    switchable: httpx.Client, body: bytes, status: int, code: str, detail: str
) -> None:
    response = switchable.put(ACTIVE, content=body, headers=BEARER)
    assert (response.status_code, response.json()["type"]) == (status, f"/problems/{code}")
    assert detail in response.json()["detail"]
    assert switchable.get("/v1/variants").json()["active"] == "fp32"
    assert switchable.post("/v1/classify", content=photo("red")).json()["variant"] == "fp32"
