"""Third-party classifiers: imported, evaluated, compared, served and switched between."""

from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image

from service.bundle.folder import Bundle, load_bundle
from service.bundle.manifest import comparison_with, reference_evaluation
from tests.api.running import samples
from tests.colours import LABELS_OF, write_photos
from tests.system.processes import run, serving, wait_for

PHOTOS = 4
TOKEN = "0123456789abcdef"  # noqa: S105


def build(*arguments: str | Path) -> str:
    """Run `python -m build` and return its output."""
    result = run(*arguments, module="build")
    assert result.returncode == 0, result.stderr
    return result.stdout


def red() -> bytes:
    """Return an entirely red photo."""
    file = BytesIO()
    Image.new("RGB", (40, 30), (220, 20, 20)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, PHOTOS)
    return folder


@pytest.fixture(scope="module")
def imported(colour_models: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of three imported files, evaluated."""
    folder = tmp_path_factory.mktemp("imported")
    labels = folder / "labels.txt"
    labels.write_text("\n".join(LABELS_OF))
    files = [
        "quantized=" + str(colour_models / "ptq.tflite"),
        *(colour_models / f"{n}.tflite" for n in ("fp32", "int8")),
    ]
    options = ["--labels", labels, "--output", "logits", "--mean", "127.5", "--std", "127.5"]
    build("import", *files, *options, "--out", folder / "theirs")
    table = build("evaluate", folder / "theirs", "--evaluation", photos)
    rows = [row.split(" | ")[0] for row in table.splitlines()[2:5]]
    assert rows == ["| quantized", "| fp32", "| int8"]
    return load_bundle(folder / "theirs")


def test_every_variant_has_an_accuracy_and_a_comparison_with_fp32(imported: Bundle) -> None:
    for name, variant in imported.manifest.variants.items():
        evaluation = reference_evaluation(variant.evaluations)
        assert evaluation is not None
        assert evaluation.top1.count == evaluation.dataset.images == PHOTOS * len(LABELS_OF)
        if name != "fp32":
            comparison = comparison_with(evaluation, "fp32")
            assert comparison is not None
            assert 0 < comparison.kl_nats < 0.01


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_a_model_that_casts_the_pixels_itself_is_checked_evaluated_and_served(
    colour_models: Path, photos: Path, tmp_path: Path, dtype: str
) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(LABELS_OF))
    model, path = colour_models / f"cast-{dtype}.tflite", tmp_path / "theirs"
    build("import", model, "--labels", tmp_path / "labels.txt", "--output", "logits", "--out", path)
    assert run("check", bundle=path).returncode == 0
    build("evaluate", path, "--evaluation", photos)
    evaluation = reference_evaluation(load_bundle(path).variant(f"cast-{dtype}").evaluations)
    assert evaluation is not None
    assert evaluation.top1.count == evaluation.dataset.images == PHOTOS * len(LABELS_OF)
    with serving(bundle=path, workers=1) as service, service.client() as client:
        answer = client.post("/v1/classify", content=red()).json()
        assert answer["predictions"][0]["label"] == "red"


def agreed(client: httpx.Client, variant: str) -> float:
    """Return how often a variant and the shadow gave the same answer."""
    return samples(client).get(f'edgewise_shadow_agree_total{{variant="{variant}"}}', 0)


def test_a_service_switches_between_imported_variants_and_compares_them(
    imported: Bundle, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    settings = {
        "loaded_variants": "quantized,fp32",
        "shadow_variant": "fp32",
        "shadow_ratio": 1,
        "variant_under_load": "int8",
        "workers": 1,
    }
    with (
        serving(bundle=imported.path, admin_token_file=token, **settings) as service,
        service.client() as client,
    ):
        for active in ("quantized", "int8"):
            switched = client.put(
                "/v1/variants/active", json={"variant": active}, headers={"Authorization": f"Bearer {TOKEN}"}
            )
            assert switched.status_code == 200, switched.text
            answer = client.post("/v1/classify", content=red()).json()
            assert (answer["variant"], answer["predictions"][0]["label"]) == (active, "red")
            wait_for(lambda name=active: agreed(client, name) == 1)
        answer = client.post("/v1/classify?variant=fp32", content=red()).json()
        assert (answer["variant"], answer["predictions"][0]["label"]) == ("fp32", "red")
