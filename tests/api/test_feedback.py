import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.body import MAX_DOCUMENT_BYTES
from service.bundle.folder import Bundle
from service.monitoring.drift import LEAST_ANSWERS
from service.settings import DEFAULT_BUNDLE, Settings
from tests.api.running import photo, running, samples
from tests.colours import CLASS_IDS_OF, LABELS_OF, PRECISIONS
from tests.evaluated import DATASET, EVALUATION, FIELDS, with_reference

CLASSIFY = "/v1/classify"
FEEDBACK = "/v1/feedback"
RED = LABELS_OF.index("red")


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    """A client of a new service, whose counters start at zero."""
    with running(settings.model_copy(update={"feedback_window": 4, "feedback_memory": 6})) as client:
        yield client


def send_label(client: httpx.Client, id_: str, label: object, status: int = 200) -> dict[str, Any]:
    response = client.post(FEEDBACK, json={"id": id_, "label": label})
    assert response.status_code == status, response.text
    document: dict[str, Any] = response.json()
    return document


def classify(client: httpx.Client, colour: str = "red", **query: object) -> str:
    response = client.post(CLASSIFY, content=photo(colour), params={k: str(v) for k, v in query.items()})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def accuracy(client: httpx.Client) -> dict[str, float]:
    found = samples(client)
    return {
        "labelled": found['edgewise_labelled_total{variant="fp32"}'],
        "window": found['edgewise_window_labelled{variant="fp32"}'],
        "top1": found['edgewise_correct_total{k="1",variant="fp32"}'],
        "top5": found['edgewise_correct_total{k="5",variant="fp32"}'],
        "ratio": found['edgewise_window_accuracy_ratio{k="1",variant="fp32"}'],
    }


@pytest.mark.parametrize("label", [RED, str(RED), CLASS_IDS_OF[RED], "red"])
def test_the_true_label_can_be_sent_later(client: httpx.Client, label: object) -> None:
    id_ = classify(client)
    answer = send_label(client, id_, label)
    assert answer == {"id": id_, "variant": "fp32", "label": RED, "top1": True, "top5": True}
    assert accuracy(client) == {"labelled": 1, "window": 1, "top1": 1, "top5": 1, "ratio": 1}


@pytest.mark.parametrize("label", [RED, CLASS_IDS_OF[RED], "red"])
@pytest.mark.parametrize("top_k", [1, 5])
def test_the_true_label_can_come_with_the_image(client: httpx.Client, label: object, top_k: int) -> None:
    id_ = classify(client, label=label)
    classify(client, "blue", label=label, top_k=top_k)
    assert accuracy(client) == {"labelled": 2, "window": 2, "top1": 1, "top5": 2, "ratio": 0.5}
    assert send_label(client, id_, RED, 409)["type"] == "/problems/truth-already-told"


def test_the_window_drops_old_labels_and_the_counters_do_not(client: httpx.Client) -> None:
    for colour in ("blue", "blue", "red", "red", "red", "red"):
        classify(client, colour, label=RED)
    assert accuracy(client) == {"labelled": 6, "window": 4, "top1": 4, "top5": 6, "ratio": 1}


def test_an_image_without_an_answer_does_not_count(client: httpx.Client) -> None:
    assert client.post(CLASSIFY, content=b"no image", params={"label": RED}).status_code == 415
    assert 'edgewise_labelled_total{variant="fp32"}' not in samples(client)


def test_an_id_that_is_unknown_or_forgotten_is_404(client: httpx.Client) -> None:
    first = classify(client)
    for _ in range(6):
        last = classify(client)
    for id_ in (first, str(uuid.uuid4()), "nothing"):
        problem = send_label(client, id_, RED, 404)
        assert problem["type"] == "/problems/unknown-answer"
        assert "EDGEWISE_FEEDBACK_MEMORY" in problem["detail"]
    send_label(client, last, RED)


def test_a_second_label_is_409(client: httpx.Client) -> None:
    id_ = classify(client)
    send_label(client, id_, RED)
    assert send_label(client, id_, 0, 409)["type"] == "/problems/truth-already-told"
    assert accuracy(client)["labelled"] == 1


@pytest.mark.parametrize("label", ["Red", 5, -1, "c05", ""])
def test_a_bad_label_is_422_on_both_routes(client: httpx.Client, label: object) -> None:
    id_ = classify(client)
    response = client.post(CLASSIFY, content=photo("red"), params={"label": str(label)})
    assert response.status_code == 422
    for problem in (response.json(), send_label(client, id_, label, 422)):
        assert problem["type"] == "/problems/bad-parameter"
        assert "from 0 to 4, a class id such as c00, or a label that only one" in problem["detail"]
    send_label(client, id_, RED)  # The bad one did not count.


def test_a_label_longer_than_any_is_refused_before_it_is_compared(client: httpx.Client) -> None:
    response = client.post(CLASSIFY, content=photo("red"), params={"label": "a" + 1024 * "\u0316"})
    assert response.status_code == 422
    assert "at most 1024 characters" in response.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"id": "a"}',
        b'{"id": 1, "label": 1}',
        b'{"id": "a", "label": true}',
        b'{"id": "a", "label": 1.0}',
        b'{"id": "a", "label": null}',
        b'{"id": "a", "label": 1, "more": 1}',
        b'{"id": "\\ud800", "label": 1}',
        b"\xff",
    ],
)
def test_a_bad_body_is_422_and_says_what_is_expected(client: httpx.Client, body: bytes) -> None:
    response = client.post(FEEDBACK, content=body)
    assert response.status_code == 422
    assert 'must be JSON such as {"id": ' in response.json()["detail"]


def test_large_json_is_refused_before_it_is_parsed(client: httpx.Client) -> None:
    response = client.post(FEEDBACK, json={"id": "a", "label": 1, **{f"more{i}": i for i in range(1000)}})
    assert response.status_code == 413
    assert response.json()["type"] == "/problems/body-too-large"


def test_each_image_of_a_batch_has_an_id(client: httpx.Client) -> None:
    images = [("image", photo("red")), ("image", b"no image"), ("image", photo("blue"))]
    red, broken, blue = client.post("/v1/classify/batch", files=images, params={"top_k": 1}).json()["results"]
    assert "id" not in broken
    assert send_label(client, red["id"], RED)["top1"] is True
    assert send_label(client, blue["id"], RED)["top1"] is False
    assert send_label(client, red["id"].replace("#0", "#1"), RED, 404)


def test_a_batch_takes_no_label(client: httpx.Client) -> None:
    response = client.post("/v1/classify/batch", files={"image": photo("red")}, params={"label": RED})
    assert response.status_code == 422
    assert "there is no parameter 'label'" in response.json()["detail"]


def test_each_image_of_an_inference_request_has_an_id(client: httpx.Client) -> None:
    framed = b"".join(len(file).to_bytes(4, "little") + file for file in (photo("red"), photo("blue")))
    parameters = {"binary_data_size": len(framed)}
    image = {"name": "image", "datatype": "BYTES", "shape": [2], "parameters": parameters}
    text = httpx.Request("POST", "http://x", json={"id": "mine", "inputs": [image]}).content
    headers = {"Inference-Header-Content-Length": str(len(text)), "X-Request-ID": "mine"}
    answer = client.post("/v2/models/colours/infer", content=text + framed, headers=headers).json()
    id_ = answer["parameters"]["answer_id"]
    assert send_label(client, f"{id_}#0", RED)["top1"] is True
    assert send_label(client, f"{id_}#1", RED)["top1"] is False
    assert send_label(client, f"{id_}#2", RED, 404)


def test_feedback_needs_a_key_as_classify_does(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("a-key-of-camera-3-0123\n")
    with running(settings.model_copy(update={"api_keys_file": path})) as client:
        assert client.post(FEEDBACK, json={"id": "a", "label": 1}).status_code == 401
        client.headers["X-API-Key"] = "a-key-of-camera-3-0123"
        send_label(client, classify(client), RED)
        described = client.get("/openapi.json").json()["paths"][FEEDBACK]["post"]
        assert described["security"]


def with_large_reference(colours: Bundle, path: Path) -> Bundle:
    """The bundle with a reference of a hundred images, twenty of each colour."""
    dataset = DATASET.model_copy(update={"images": 100})
    quantiles = FIELDS["variants"]["fp32"]["confidence"]
    variants = {name: {"top1": [20] * 5, "confidence": quantiles} for name in PRECISIONS}
    content = json.dumps({"dataset": dataset.model_dump(), "crop": "none", "variants": variants}).encode()
    return with_reference(colours, path, content, EVALUATION.model_copy(update={"dataset": dataset}))


def test_answers_are_compared_with_the_bundles_reference(
    settings: Settings, colours: Bundle, tmp_path: Path
) -> None:
    bundle = with_large_reference(colours, tmp_path / "bundle")
    with running(settings.model_copy(update={"bundle": bundle.path})) as client:
        for _ in range(LEAST_ANSWERS):
            classify(client)
        found = samples(client)
    assert found['edgewise_drift_answers{variant="fp32"}'] == LEAST_ANSWERS
    assert found['edgewise_drift_psi{signal="top1",variant="fp32"}'] > 1
    assert found['edgewise_drift_psi{signal="confidence",variant="fp32"}'] > 1
    assert found['edgewise_confidence_count{variant="fp32"}'] == LEAST_ANSWERS


def test_a_class_named_beyond_the_fifth_does_not_count_as_top5() -> None:
    image = Path(__file__).parent.parent / "data" / "cat.jpg"
    with running(Settings(bundle=DEFAULT_BUNDLE, workers=1)) as client:
        answer = client.post(CLASSIFY, content=image.read_bytes(), params={"top_k": 10}).json()
        told = send_label(client, answer["id"], answer["predictions"][7]["index"])
    assert (told["top1"], told["top5"]) == (False, False)


def test_a_body_of_exactly_the_most_bytes_is_accepted(client: httpx.Client) -> None:
    body = json.dumps({"id": classify(client), "label": RED}).encode()
    assert client.post(FEEDBACK, content=body.ljust(MAX_DOCUMENT_BYTES + 1)).status_code == 413
    assert client.post(FEEDBACK, content=body.ljust(MAX_DOCUMENT_BYTES)).status_code == 200
