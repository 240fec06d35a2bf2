import re
import uuid
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from service.bundle.folder import Bundle
from service.bundle.manifest import CLASS_IDS
from service.images.pixels import Crop
from service.inference.classifier import Classifier
from service.settings import Settings
from tests.api.running import blocked_worker, photo, running, samples
from tests.colours import CLASS_IDS_OF, LABELS_OF, RGB, altered

CLASSIFY = "/v1/classify"


def code(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    optional = {"retry_after"} & {header.replace("-", "_") for header in response.headers}
    assert set(document) == {"type", "title", "status", "detail", "instance"} | optional
    assert document["status"] == response.status_code
    return document["type"].removeprefix("/problems/")


@pytest.mark.parametrize("colour", RGB)
def test_the_right_class_is_on_top(client: httpx.Client, colour: str) -> None:
    answer = client.post(CLASSIFY, content=photo(colour)).json()
    index = LABELS_OF.index(colour)
    first = answer["predictions"][0]
    assert (first["index"], first["class_id"], first["label"]) == (index, CLASS_IDS_OF[index], colour)


@pytest.mark.parametrize("crop", Crop)
def test_probabilities_are_the_classifiers_own(client: httpx.Client, colours: Bundle, crop: Crop) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (61, 90, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    answer = client.post(CLASSIFY, content=file.getvalue(), params={"crop": crop}).json()
    expected = Classifier(colours, "fp32").classify(file.getvalue(), crop)
    assert [(p["index"], p["probability"]) for p in answer["predictions"]] == expected.top(5)
    assert answer["crop"] == crop


def test_an_answer_names_its_bundle_variant_crop_and_timings(client: httpx.Client) -> None:
    response = client.post(CLASSIFY, content=photo("red"))
    answer = response.json()
    assert set(answer) == {"id", "bundle", "variant", "crop", "uncertain", "predictions", "timing_ms"}
    assert (answer["bundle"], answer["variant"], answer["crop"]) == ("colours", "fp32", "bundle")
    assert list(answer["timing_ms"]) == ["read", "queue", "decode", "inference"]
    assert all(took >= 0 for took in answer["timing_ms"].values())
    timing = re.findall(r"(\w+);dur=([0-9.]+)", response.headers["server-timing"])
    assert {stage: float(took) for stage, took in timing} == answer["timing_ms"]


def test_ids_are_random(client: httpx.Client) -> None:
    ids = {client.post(CLASSIFY, content=photo("red")).json()["id"] for _ in range(20)}
    assert len(ids) == 20
    assert {uuid.UUID(id_).version for id_ in ids} == {4}


@pytest.mark.parametrize(
    "content_type",
    [None, "image/png", "image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded", "x"],
)
def test_the_content_decides_the_image_type(client: httpx.Client, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = client.post(CLASSIFY, content=photo("blue"), headers=headers)
    assert response.json()["predictions"][0]["label"] == "blue"


def test_a_form_is_answered_like_a_raw_body(client: httpx.Client) -> None:
    as_form = client.post(CLASSIFY, files={"image": ("photo.png", photo("green"), "image/png")}).json()
    as_body = client.post(CLASSIFY, content=photo("green")).json()
    assert as_form["predictions"] == as_body["predictions"]


@pytest.mark.parametrize(("top_k", "count"), [(None, 5), (1, 1), (3, 3), (5, 5)])
def test_top_k_classes_come_likeliest_first(client: httpx.Client, top_k: int | None, count: int) -> None:
    params = {} if top_k is None else {"top_k": top_k}
    predictions = client.post(CLASSIFY, content=photo("red"), params=params).json()["predictions"]
    probabilities = [prediction["probability"] for prediction in predictions]
    assert len(probabilities) == count
    assert probabilities == sorted(probabilities, reverse=True)


@pytest.mark.parametrize(("min_probability", "uncertain"), [(None, False), ("0", False), ("1", True)])
def test_uncertain_means_the_top_class_is_below_min_probability(
    client: httpx.Client, min_probability: str | None, uncertain: bool
) -> None:
    params = {} if min_probability is None else {"min_probability": min_probability}
    answer = client.post(CLASSIFY, content=photo("red"), params=params).json()
    assert answer["uncertain"] is uncertain
    exactly = {"min_probability": repr(answer["predictions"][0]["probability"])}
    assert client.post(CLASSIFY, content=photo("red"), params=exactly).json()["uncertain"] is False


def test_the_settings_can_set_min_probability(settings: Settings) -> None:
    uncertain = 'edgewise_uncertain_total{variant="fp32"}'
    with running(settings.model_copy(update={"min_probability": 1.0})) as client:
        file = photo("red")
        assert (
            client.post(CLASSIFY, content=file, params={"min_probability": "0"}).json()["uncertain"] is False
        )
        assert samples(client)[uncertain] == 0
        assert client.post(CLASSIFY, content=file).json()["uncertain"] is True
        (of_batch,) = client.post("/v1/classify/batch", files={"image": file}).json()["results"]
        assert of_batch["uncertain"] is True
        assert samples(client)[uncertain] == 2
        data = b64encode(file).decode()
        parameters = {"content_type": "base64"}
        image = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": parameters, "data": [data]}
        assert client.post("/v2/models/colours/infer", json={"inputs": [image]}).status_code == 200
        assert samples(client)[uncertain] == 3
    with running(settings) as client:
        client.post(CLASSIFY, content=photo("red"), params={"min_probability": "1"})
        assert client.post(CLASSIFY, content=photo("red")).json()["uncertain"] is False
        assert samples(client)[uncertain] == 1


def test_an_enormous_timeout_is_accepted(client: httpx.Client) -> None:
    response = client.post(f"{CLASSIFY}?timeout_ms=1{'0' * 400}", content=photo("red"))
    assert response.status_code == 200


@pytest.mark.parametrize("path", [CLASSIFY, f"{CLASSIFY}/batch"])
def test_an_image_waits_no_longer_than_timeout_ms(settings: Settings, path: str) -> None:
    with blocked_worker(settings) as (client, _):
        response = client.post(f"{path}?timeout_ms=50", files={"image": photo("red")})
        document = response.json() if path == CLASSIFY else response.json()["results"][0]["problem"]
    assert document["type"] == "/problems/deadline-exceeded"
    (seconds,) = re.findall(r"was free in the (\S+) seconds", document["detail"])
    assert float(seconds) <= 0.05


@pytest.mark.parametrize(
    ("query", "expected", "detail"),
    [
        ("variant=ptq", "variant-not-loaded", "'ptq' is not loaded, only fp32; start"),
        ("variant=nope", "unknown-variant", "no variant 'nope'; it has: fp32, int8, ptq, softmax"),
        ("top_k=0", "bad-parameter", "top_k is '0', but it should be greater than or equal to 1"),
        ("top_k=6", "bad-parameter", "top_k exceeds the number of the model's classes, 5"),
        ("top_k=two", "bad-parameter", "top_k is 'two', but it should be a valid integer"),
        ("top_k=1_0", "bad-parameter", "top_k is '1_0', but it should be a number without underscores"),
        ("timeout_ms=5_0", "bad-parameter", "timeout_ms is '5_0', but it should be a number without"),
        ("min_probability=0_1", "bad-parameter", "min_probability is '0_1', but it should be a number"),
        (f"timeout_ms={'1' * 5000}", "bad-parameter", "1', but it has too many digits"),
        ("crop=half", "bad-parameter", "crop is 'half', but it should be 'bundle' or 'none'"),
        ("min_probability=1.1", "bad-parameter", "min_probability is '1.1', but it should be less than"),
        ("min_probability=nan", "bad-parameter", "min_probability is 'nan', but it should be a finite"),
        (
            "topk=1",
            "bad-parameter",
            "no parameter 'topk'; the parameters are top_k, variant, crop, timeout_ms, min_probability",
        ),
        ("top_k=1&top_k=2", "bad-parameter", "given more than once: 'top_k'"),
        ("top_k=1&crop=a&crop=b&top_k=2", "bad-parameter", "given more than once: 'top_k'"),
        ("variant=caf%C3%A9", "unknown-variant", r"no variant 'caf\xe9'; it has"),
        ("caf%C3%A9=1", "bad-parameter", r"no parameter 'caf\xe9'; the parameters are"),
        ("crop=caf%C3%A9", "bad-parameter", r"crop is 'caf\xe9', but"),
        ("top_k=x&crop=y", "bad-parameter", "; crop is 'y'"),
    ],
)
def test_bad_parameters_are_refused_with_the_reason(
    client: httpx.Client, query: str, expected: str, detail: str
) -> None:
    response = client.post(f"{CLASSIFY}?{query}", content=photo("red"))
    assert code(response) == expected
    assert detail in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "empty-body"),
        (b"not an image", "unsupported-image"),
        (b"{}", "unsupported-image"),
        (photo("red")[:60], "corrupt-image"),
        (photo("red", size=(1001, 1000)), "image-too-large"),
        (bytes(200_001), "body-too-large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_images_are_refused_with_the_reason(client: httpx.Client, body: bytes, expected: str) -> None:
    response = client.post(CLASSIFY, content=body)
    assert code(response) == expected
    assert response.json()["detail"]


def test_class_ids_are_null_if_the_bundle_has_none(
    colours: Bundle, tmp_path: Path, settings: Settings
) -> None:
    bundle = altered(colours, tmp_path / "bundle", {CLASS_IDS: None})
    with running(settings.model_copy(update={"bundle": bundle.path})) as client:
        predictions = client.post(CLASSIFY, content=photo("red")).json()["predictions"]
    assert {prediction["class_id"] for prediction in predictions} == {None}


def test_concurrent_requests_each_get_their_own_answer(client: httpx.Client) -> None:
    colours = [*RGB] * 10

    def ask(colour: str) -> str:
        return client.post(CLASSIFY, content=photo(colour)).json()["predictions"][0]["label"]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, colours)) == colours


def test_a_full_queue_refuses_requests_with_retry_after(
    settings: Settings,
) -> None:
    # Decoding this takes long enough for the other requests to arrive meanwhile.
    large = photo("red", size=(4500, 4500))
    limits = {"workers": 1, "queue_size": 1, "max_pixels": 50_000_000, "max_body_bytes": 10_000_000}
    with running(settings.model_copy(update=limits)) as client, ThreadPoolExecutor(12) as threads:
        responses = list(threads.map(lambda _: client.post(CLASSIFY, content=large), range(12)))
        statuses = [response.status_code for response in responses]
        assert set(statuses) == {200, 429}
        for response in responses:
            if response.status_code == 429:
                assert code(response) == "queue-full"
                assert response.json()["retry_after"] == int(response.headers["retry-after"]) >= 1
        rejected = samples(client)['edgewise_rejected_total{reason="queue_full"}']
        assert rejected == statuses.count(429)


def test_an_image_that_takes_too_much_memory_to_decode_is_refused(settings: Settings) -> None:
    limits = {"max_decode_bytes": 1_000_000}
    with running(settings.model_copy(update=limits)) as client:
        response = client.post(CLASSIFY, content=photo("red", size=(900, 900)))
        assert response.status_code == 413
        assert code(response) == "image-too-large"
        assert client.post(CLASSIFY, content=photo("red")).status_code == 200
