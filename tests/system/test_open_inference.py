"""Triton's own client works with the service unchanged."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray

from service.bundle.folder import Bundle
from service.images.pixels import load_pixels
from tests.system.processes import ROOT, Service, serving

MODEL = "imagenet-1k"
PHOTO = ROOT / "tests" / "data" / "cat.jpg"


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(service.url.removeprefix("http://")) as client:
        yield client


@pytest.fixture(scope="module")
def probabilities(service: Service, default_bundle: Bundle) -> NDArray[np.float32]:
    """The probabilities that POST /v1/classify gives the photo, in index order."""
    with service.client() as client:
        query = {"top_k": default_bundle.manifest.classes}
        classes = client.post("/v1/classify", params=query, content=PHOTO.read_bytes()).json()["predictions"]
    return np.array([p["probability"] for p in sorted(classes, key=lambda p: p["index"])], np.float32)


def files(*images: bytes) -> triton.InferInput:
    tensor = triton.InferInput("image", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(images, object))
    return tensor


def pixels(values: NDArray[np.uint8], *, binary: bool = True, name: str = "image") -> triton.InferInput:
    tensor = triton.InferInput(name, [*values.shape], "UINT8")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def test_the_metadata_describe_the_server_and_the_model(
    client: triton.InferenceServerClient, default_bundle: Bundle
) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    server = client.get_server_metadata()
    assert (server["name"], server["extensions"]) == ("edgewise", ["binary_tensor_data", "classification"])
    model = client.get_model_metadata(MODEL)
    assert model["versions"] == [*default_bundle.manifest.variants]
    assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 224, 224, 3]}]
    assert model["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 1000]}]
    assert client.get_model_metadata(MODEL, "fp32") == model


def test_only_loaded_variants_are_ready(client: triton.InferenceServerClient, default_bundle: Bundle) -> None:
    loaded = default_bundle.manifest.default_variant
    ready = {name: client.is_model_ready(MODEL, name) for name in default_bundle.manifest.variants}
    assert ready == {name: name == loaded for name in default_bundle.manifest.variants}
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("other")


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_files_and_pixels_get_the_same_answer_as_from_classify(
    client: triton.InferenceServerClient,
    default_bundle: Bundle,
    probabilities: NDArray[np.float32],
    binary: bool,
) -> None:
    photo = PHOTO.read_bytes()
    values = load_pixels(photo, default_bundle.manifest.preprocessing)[np.newaxis]
    outputs = [triton.InferRequestedOutput("probabilities", binary_data=binary)]
    for tensor in (files(photo), pixels(values, binary=binary)):
        result = client.infer(MODEL, [tensor], outputs=outputs)
        assert result.as_numpy("probabilities").dtype == np.float32
        assert result.as_numpy("probabilities").tolist() == [probabilities.tolist()]
        assert result.get_response()["model_version"] == default_bundle.manifest.default_variant


def test_several_images_are_answered_at_once(
    client: triton.InferenceServerClient, photos: dict[str, Path], probabilities: NDArray[np.float32]
) -> None:
    images = [path.read_bytes() for path in photos.values()]
    result = client.infer(MODEL, [files(*images, PHOTO.read_bytes())], timeout=8_000_000, request_id="five")
    assert result.as_numpy("probabilities").shape == (len(images) + 1, 1000)
    assert result.as_numpy("probabilities")[-1].tolist() == probabilities.tolist()
    assert result.get_response()["id"] == "five"


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_classification_returns_the_likeliest_classes(
    client: triton.InferenceServerClient,
    default_bundle: Bundle,
    probabilities: NDArray[np.float32],
    binary: bool,
) -> None:
    output = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)
    (result,) = client.infer(MODEL, [files(PHOTO.read_bytes())], outputs=[output]).as_numpy("probabilities")
    top = np.argsort(-probabilities, kind="stable")[:3]
    texts = [text.decode() if isinstance(text, bytes) else text for text in result]
    assert texts == [f"{probabilities[i]:f}:{i}:{default_bundle.labels[i]}" for i in top]


@pytest.mark.parametrize(
    ("model", "version", "tensor", "expected"),
    [
        (MODEL, "", files(b"no image"), "not an image in a supported format"),
        (MODEL, "", pixels(np.zeros((1, 10, 10, 3), np.uint8)), "must have [n, 224, 224, 3]"),
        (MODEL, "", pixels(np.zeros((1, 224, 224, 3), np.uint8), name="x"), "one input, named image"),
        (MODEL, "", files(*[b"x"] * 9), "the limit of 8 images"),
        (MODEL, "fp32", files(b"x"), "'fp32' is not loaded"),
        (MODEL, "1", files(b"x"), "has no variant '1'; it has: dynamic"),
        ("other", "", files(b"x"), "there is no model 'other'; the model is imagenet-1k"),
    ],
)
def test_errors_have_the_services_own_messages(
    client: triton.InferenceServerClient, model: str, version: str, tensor: triton.InferInput, expected: str
) -> None:
    with pytest.raises(triton.InferenceServerException, match=re.escape(expected)) as caught:
        client.infer(model, [tensor], version)
    assert caught.value.status() in {"400", "404", "409", "413", "415"}


def test_the_example_of_the_documentation_runs(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "http.md").read_text()
    (example,) = re.findall(r"```python\n(.*?tritonclient.*?)```", text, re.DOTALL)
    (tmp_path / "photo.jpg").write_bytes(PHOTO.read_bytes())
    monkeypatch.chdir(tmp_path)
    address = httpx.URL(service.url).netloc.decode()
    exec(compile(example.replace("127.0.0.1:8000", address), "docs/http.md", "exec"), {})  # noqa: S102
    assert re.search(r":28[1-5]:.*cat", capsys.readouterr().out)


def test_a_stopping_server_is_live_but_not_ready() -> None:
    with (
        serving(drain_grace_seconds=600) as service,
        triton.InferenceServerClient(service.url.removeprefix("http://")) as client,
    ):
        assert client.is_server_ready()
        service.signal(signal.SIGTERM)
        service.line("stopping")
        assert client.is_server_live()
        assert not client.is_server_ready()
        assert not client.is_model_ready(MODEL)
        assert not client.is_model_ready(MODEL, "qat")
        # Requests within the grace period are answered.
        assert client.infer(MODEL, [files(PHOTO.read_bytes())]).as_numpy("probabilities").size == 1000


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": [' + b"1.5," * 5_000_000 + b"1]}",
        b'{"inputs": [' + b"1.5," * 190_000 + b"1]}",
        b"[" * 20_000_000,
        b"[" + b"[0]," * 100_000 + b"1]",
        b'{"id": "' + b"a" * 20_000_000 + b'"}',
    ],
    ids=["values", "errors", "depth", "lists", "text"],
)
def test_bodies_made_to_use_much_memory_use_little(service: Service, body: bytes) -> None:
    with service.client() as client:
        client.post("/v1/classify", content=PHOTO.read_bytes())
        before = service.memory("VmHWM")
        assert client.post(f"/v2/models/{MODEL}/infer", content=body).status_code == 400
    # The body itself, its text, and the strings in it.
    assert service.memory("VmHWM") - before < 32 * 2**20 + 3 * len(body)
