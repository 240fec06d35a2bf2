import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from service.__main__ import main
from service.bundle.folder import Bundle, sha256_of
from service.bundle.manifest import SEEN_IMAGES, Evaluation
from tests.colours import altered, lines
from tests.command_line.output import one_line


def test_evaluate_prints_a_table_and_writes_the_same_as_json(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "result.json"
    assert (
        main(["evaluate", str(folder), "--variants", "fp32,ptq", "--crop", "none", "--json", str(file)]) == 0
    )
    captured = capfd.readouterr()
    assert captured.out.startswith("photos: 15 images, crop=none, images' SHA-256 ")
    assert "NOT TEST ACCURACY" not in captured.out
    assert "\nagreement, KL, lost and won: against fp32\n" in captured.out
    ece = r"\d+\.\d\d"
    fp32 = rf"^fp32 +93\.33 \(70\.2–98\.8\) +({ece})$"
    ptq = rf"^ptq +93\.33 .* ({ece}) +100\.00 \(79\.6–100\.0\) +0\.\d{{4}} ± 0\.\d{{4}} +0 +0$"
    rows = [re.search(row, captured.out, re.MULTILINE) for row in (fp32, ptq)]
    assert "15/15" in captured.err
    result = json.loads(file.read_text())
    assert (result["bundle"], result["delegate"]) == ("colours", "xnnpack")
    evaluations = {name: Evaluation.model_validate(e) for name, e in result["evaluations"].items()}
    assert list(evaluations) == ["fp32", "ptq"]
    assert {(e.top1.count, e.top5.count, e.crop, e.dataset.images) for e in evaluations.values()} == {
        (14, 15, "none", 15)
    }
    assert [match and float(match[1]) for match in rows] == [
        round(100 * evaluation.ece, 2) for evaluation in evaluations.values()
    ]


def test_evaluate_compares_one_variant_alone_with_none(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(folder), "--variants", "fp32"]) == 0
    assert "agreement" not in capfd.readouterr().out


def test_evaluate_compares_with_the_variant_given_by_against(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "result.json"
    command = ["evaluate", str(folder), "--variants", "ptq,int8", "--json", str(file)]
    assert main(command) == 0
    out = capfd.readouterr().out
    assert "agreement" not in out  # There is no fp32 to compare with.
    assert main([*command, "--against", "ptq"]) == 0
    out = capfd.readouterr().out
    assert "against ptq\n" in out
    assert re.search(r"^ptq +93\.33 \S+ +\d+\.\d\d$", out, re.MULTILINE)
    assert re.search(r"^int8 .* 100\.00 \(79\.6–100\.0\) +0\.\d{4} ± 0\.\d{4} +0 +0$", out, re.MULTILINE)
    evaluation = Evaluation.model_validate(json.loads(file.read_text())["evaluations"]["int8"])
    assert [comparison.against for comparison in evaluation.comparisons] == ["ptq"]
    assert main([*command, "--against", "fp32"]) == 2
    assert one_line(capfd.readouterr().err) == "--against fp32 must be one of those evaluated: ptq, int8"


def test_evaluate_evaluates_all_variants_of_another_bundle(
    folder: Path, colours: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_BUNDLE", "/nonexistent")
    assert main(["evaluate", str(folder), "--bundle", str(colours.path)]) == 0
    names = re.findall(r"^(\w+) +93\.33", capfd.readouterr().out, re.MULTILINE)
    assert names == list(colours.manifest.variants)


def test_evaluate_refuses_training_images_or_on_request_marks_them(
    folder: Path, colours: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = [sha256_of(folder / colour / "1.png")[:16] for colour in ("red", "blue")]
    bundle = altered(colours, tmp_path / "bundle", {SEEN_IMAGES: lines(seen)})
    command = ["evaluate", str(folder), "--bundle", str(bundle.path)]
    # It says so before it decodes them all.
    (folder / "red" / "damaged.png").write_text("not an image")
    assert main(command) == 2
    assert "2 of the 16 images" in one_line(capfd.readouterr().err)
    (folder / "red" / "damaged.png").unlink()
    assert main([*command, "--allow-seen"]) == 0
    marked = "NOT TEST ACCURACY: the network was trained or calibrated on 2 of these images"
    assert marked in capfd.readouterr().out


def test_evaluate_says_of_which_variants_nothing_is_known_about_the_images_seen(
    folder: Path, colours: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = colours.variant("ptq").provenance
    names = {"fp32": {"imported": "a.tflite"}, "ptq": {"imported": "b.tflite", "seen_images": 0}}
    made = {name: {"provenance": own.model_copy(update={"recipe": recipe})} for name, recipe in names.items()}
    bundle = altered(colours, tmp_path / "bundle", **made)
    command = ["evaluate", str(folder), "--bundle", str(bundle.path), "--variants"]
    told = "\nnothing is known about the images that fp32 may have been trained or calibrated on\n"
    assert main([*command, "fp32,ptq,int8"]) == 0
    assert told in capfd.readouterr().out
    assert main([*command, "ptq,int8"]) == 0
    assert "nothing is known" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "purple").mkdir(), "purple is named after no class"),
        (lambda folder: (folder / "red" / "0.png").write_bytes(b"x"), "not an image in a supported format"),
        (
            lambda folder: shutil.copy(folder / "blue" / "0.png", folder / "red" / "copy.png"),
            "red/copy.png are the same image in the folders of two classes",
        ),
    ],
)
def test_evaluate_refuses_an_invalid_folder(
    folder: Path, spoil: Callable[[Path], None], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(folder)
    assert main(["evaluate", str(folder)]) == 2
    assert message in one_line(capfd.readouterr().err)


def test_evaluate_counts_unreadable_images_or_leaves_them_out(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Two empty files in two classes must not be reported as one image with two labels.
    for colour in ("blue", "red"):
        (folder / colour / "empty.png").touch()
    file = tmp_path / "result.json"
    command = ["evaluate", str(folder), "--variants", "ptq", "--json", str(file)]
    assert main(command) == 2
    line = one_line(capfd.readouterr().err)
    assert line.startswith(f"2 of 17 images can't be read, first {folder}/blue/empty.png: ")
    assert line.endswith(" (--skip-corrupt leaves them out)")
    assert main([*command, "--skip-corrupt"]) == 0
    captured = capfd.readouterr()
    assert one_line(captured.err).startswith("2 of 17 images can't be read and are left out, first ")
    assert captured.out.startswith("photos: 15 images, ")
    assert json.loads(file.read_text())["evaluations"]["ptq"]["dataset"]["images"] == 15


def test_evaluate_refuses_a_class_without_readable_images(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in (folder / "red").iterdir():
        path.write_text("not an image")
    assert main(["evaluate", str(folder), "--skip-corrupt"]) == 2
    message = f"none of the images in {folder}/red can be read, first {folder}/red/0.png: "
    assert one_line(capfd.readouterr().err).startswith(message)


def test_photos_are_evaluated_within_the_service_s_limits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_MAX_PIXELS", "100")
    assert main(["evaluate", str(folder)]) == 2
    assert "the limit is 100 pixels" in capsys.readouterr().err
