from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from service.bundle.folder import Bundle
from service.images.pixels import Crop
from service.inference.classifier import Classifier
from service.measuring.evaluation import answer
from service.measuring.labelled import LabelledImage
from tests.system.processes import Service, serving

CATS = range(281, 286)


def labelled(paths: Sequence[Path]) -> list[LabelledImage]:
    return [LabelledImage(path, 0, "0" * 64) for path in paths]


def test_every_variant_recognizes_a_cat(default_bundle: Bundle, photos: dict[str, Path]) -> None:
    image = photos["cat"].read_bytes()
    for variant in default_bundle.manifest.variants:
        with serving(bundle=default_bundle.path, variant=variant) as service, service.client() as client:
            answers = [
                client.post("/v1/classify", content=image).json(),
                client.post("/v1/classify", files={"image": image}).json(),
            ]
        for result in answers:
            assert result["variant"] == variant
            assert result["predictions"][0]["index"] in CATS
            assert "cat" in result["predictions"][0]["label"]


@pytest.mark.parametrize("crop", Crop)
def test_served_probabilities_equal_evaluated_ones(
    service: Service, default_bundle: Bundle, photos: dict[str, Path], crop: Crop
) -> None:
    assert_served_equals_evaluated(service, default_bundle, [*photos.values()], crop)


def test_served_probabilities_equal_evaluated_ones_on_a_hundred_photos(
    service: Service, default_bundle: Bundle, shared: Path
) -> None:
    paths = sorted((shared / "images" / "imagenet-val").glob("*/*"))[:100]
    assert len(paths) == 100
    assert_served_equals_evaluated(service, default_bundle, paths, Crop.NONE)


def assert_served_equals_evaluated(
    service: Service, bundle: Bundle, paths: Sequence[Path], crop: Crop
) -> None:
    expected = answer(Classifier(bundle, bundle.manifest.default_variant), labelled(paths), crop)
    query = {"crop": crop, "top_k": bundle.manifest.classes}
    with service.client() as client:
        for path, probabilities in zip(paths, expected, strict=True):
            result = client.post("/v1/classify", params=query, content=path.read_bytes()).json()
            served = {p["index"]: p["probability"] for p in result["predictions"]}
            assert [served[index] for index in range(len(served))] == probabilities.tolist()
            assert len(served) == len(probabilities)
            assert np.float32(served[0]) == probabilities[0]
