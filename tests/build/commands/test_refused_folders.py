import shutil
from pathlib import Path

import pytest

from build.__main__ import main
from build.evidence.report import split_at_markers
from service.bundle.folder import Bundle, load_bundle
from service.errors import StartError
from tests.build.commands.refusals import refusal, with_data
from tests.build.conftest import flatten
from tests.rights import as_an_ordinary_user


@pytest.mark.parametrize(
    ("run", "out"), [("bundle", "bundle"), ("bundle/checkpoints", "bundle"), ("run", "run/recipe-qat")]
)
def test_checkpoints_and_bundle_inside_each_other_are_refused(
    arguments: dict[str, Path | str], capsys: pytest.CaptureFixture[str], tmp_path: Path, run: str, out: str
) -> None:
    del arguments["--evaluation"]
    arguments |= {"--run": tmp_path / run, "--out": tmp_path / out}
    # There are no photos, so this must be refused before any is read.
    arguments["--calibration"] = tmp_path / "absent"
    error = refusal(capsys, "quantize", *flatten(arguments), "--recipes", "fp32", "qat")
    assert error == (
        f"checkpoints would be in {tmp_path / run} and the bundle in {tmp_path / out}, but neither may be"
        " inside the other; choose another folder with --run"
    )
    assert not (tmp_path / "bundle").exists()


def test_a_link_to_itself_as_the_run_folder_is_refused(
    arguments: dict[str, Path | str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    del arguments["--evaluation"]
    run = tmp_path / "loop"
    run.symlink_to(run)
    error = refusal(capsys, "quantize", *flatten(arguments | {"--run": run}), "--recipes", "fp32", "qat")
    assert str(run) in error


def test_the_folder_of_another_run_is_refused_before_the_work(
    arguments: dict[str, Path | str],
    training_folder: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    options = [*flatten(with_data(arguments, training_folder)), "--recipes", "qat"]
    for name in ("train", "recipe-qat"):
        folder = tmp_path / "run" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text('{"schedule": {"epochs": 77}}')
        error = refusal(capsys, "all", *options)
        assert error.startswith(f"{folder} holds the checkpoints of a run with other options or photos")
        # Nothing was trained, and no list of photos was written.
        assert [path.name for path in (tmp_path / "run").rglob("*")] == [name, "run.json"]
        shutil.rmtree(tmp_path / "run")


def test_a_folder_that_can_not_be_written_is_named(
    arguments: dict[str, Path | str], labels_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del arguments["--run"], arguments["--evaluation"]
    data = arguments.pop("--calibration")
    changed = arguments | {"--data": data, "--epochs": "1", "--batch-size": "8", "--out": labels_file / "run"}
    assert refusal(capsys, "train", *flatten(changed)).startswith(f"{labels_file / 'run'}: Not a directory")


def test_checkpoints_are_not_mixed_into_a_bundle(
    arguments: dict[str, Path | str], copy: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(copy.path.iterdir())
    data = {"--data": arguments.pop("--calibration")}
    del arguments["--evaluation"]
    rest = {name: arguments[name] for name in ("--weights", "--labels", "--size")}
    expected = f"{copy.path} holds a bundle; choose another folder for checkpoints"
    assert refusal(capsys, "train", *flatten(rest | data | {"--out": copy.path})) == expected
    assert refusal(capsys, "all", *flatten(arguments | data | {"--run": copy.path})) == expected
    assert sorted(copy.path.iterdir()) == before


@pytest.mark.parametrize("command", ["quantize", "all"])
def test_a_bundle_is_not_replaced_by_one_without_its_weights(
    copy: Bundle,
    calibration: Path,
    evaluation: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
) -> None:
    link = tmp_path / "link"
    link.symlink_to(copy.path)
    tested = ["--evaluation", evaluation, "--epochs", "0"] if command == "all" else []
    photos = ["--calibration", calibration, *tested]
    error = refusal(capsys, command, "--weights", copy.path, *photos, "--recipes", "ptq", "--out", link)
    assert error.startswith(f"{link} would lose its variant fp32, which holds the network's weights: `add`")
    assert load_bundle(copy.path).manifest == copy.manifest


def test_sensitivity_is_not_measured_if_it_can_not_be_written(
    small: Bundle, calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "out" / "sensitivity.png"
    picture.mkdir(parents=True)
    photos = ["--weights", small.path, "--calibration", calibration, "--images", "4"]
    assert main([*map(str, ("sensitivity", *photos)), "--out", str(picture.parent)]) == 2
    stderr = capsys.readouterr().err
    assert stderr.splitlines()[-1] == f"edgewise: {picture} can't be written: it is a folder"
    assert "sensitivity:" not in stderr


def test_a_read_only_file_for_the_table_is_refused(open_path: Path) -> None:
    file = open_path / "README.md"
    file.write_text("<!-- variants -->\n<!-- /variants -->\n")
    file.chmod(0o444)
    with as_an_ordinary_user(), pytest.raises(StartError, match=r"README.md can't be written by this user"):
        split_at_markers(file)
