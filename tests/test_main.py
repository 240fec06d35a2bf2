import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from service import VERSION
from service.__main__ import main
from service.bundle.folder import Bundle, sha256_of
from service.bundle.manifest import SEEN_IMAGES, Evaluation
from service.commands.device import describe_device, describe_software
from service.commands.profile import profile
from service.errors import StartError
from service.inference.delegates import Delegate
from service.results.profile import Profile
from service.settings import DEFAULT_BUNDLE, PREFIX, Settings
from tests.colours import RGB, altered, lines
from tests.monitoring.boards import counting, rapl, write_tree

PHOTOS_A_CLASS = 3


@pytest.fixture(autouse=True)
def bundle_setting(colours: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(colours.path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos of each colour, three a class; one of the red ones is really blue."""
    folder = tmp_path / "photos"
    for colour in RGB:
        (folder / colour).mkdir(parents=True)
        for number in range(PHOTOS_A_CLASS):
            wrong = (colour, number) == ("red", 0)
            image = Image.new("RGB", (40 + number, 31 if wrong else 30), RGB["blue" if wrong else colour])
            image.save(folder / colour / f"{number}.png")
    return folder


def one_line(stderr: str) -> str:
    (line,) = [line for line in stderr.splitlines() if line.startswith("edgewise: ")]
    return line.removeprefix("edgewise: ")


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"edgewise {VERSION}\n"


def test_check_prints_every_setting_and_what_would_be_served(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    out = capfd.readouterr().out
    assert re.findall(rf"^{PREFIX}(\w+)", out, re.MULTILINE) == [
        name.upper() for name in Settings.model_fields
    ]
    assert re.search(r"^ptq +int8 +0\.0 +served$", out, re.MULTILINE)
    assert re.search(r"^fp32 +float32 +0\.0$", out, re.MULTILINE)
    assert re.search(r"^Taken by xnnpack, under ai-edge-litert \S+:$", out, re.MULTILINE)
    assert "\nfp32: 3 of 3 operators in 1 partition\n" in out
    assert "Would serve colours, variant ptq, on 127.0.0.1, port 8000" in out


def test_check_tells_what_a_packed_variant_takes_on_the_wire(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(DEFAULT_BUNDLE))
    assert main(["check"]) == 0
    assert re.search(r"^small +int8 +8\.4 \(3\.5 packed\)$", capfd.readouterr().out, re.MULTILINE)


def test_check_tells_which_variants_a_delegate_does_not_do_for(
    library: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_DELEGATE", str(library))
    monkeypatch.setenv("EDGEWISE_VARIANT", "fp32")
    assert main(["check"]) == 0
    out = capfd.readouterr().out
    assert "\nfp32: 1 of 3 operators in 1 partition; left: DEPTHWISE_CONV_2D 1, MEAN 1\n" in out
    assert re.search(
        r"^ptq: does not run here: delegate .* takes none of the \d operators", out, re.MULTILINE
    )
    monkeypatch.setenv("EDGEWISE_VARIANT", "ptq")
    assert main(["check"]) == 2
    assert "takes none of the" in one_line(capfd.readouterr().err)
    monkeypatch.setenv("EDGEWISE_DELEGATE_FALLBACK", "cpu")
    assert main(["check"]) == 0
    told = r"^ptq: FALLBACK, \d of \d operators in 1 partition.* by xnnpack: delegate .* takes none"
    assert re.search(told, capfd.readouterr().out, re.MULTILINE)


def test_check_measures_too_where_the_start_would(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_VARIANT", "auto")
    monkeypatch.setenv("EDGEWISE_LOADED_VARIANTS", "fp32,softmax")
    assert main(["check"]) == 0
    out = capfd.readouterr().out
    assert re.search(r"^EDGEWISE_VARIANT +auto$", out, re.MULTILINE)
    assert re.search(r"^EDGEWISE_LOADED_VARIANTS +fp32,softmax$", out, re.MULTILINE)
    (served,) = re.findall(r"^(\w+) +\w+ +0\.0 +served$", out, re.MULTILINE)
    loaded = set(re.findall(r"^(\w+) +\w+ +0\.0 +loaded$", out, re.MULTILINE))
    assert loaded == {"fp32", "softmax"} - {served}
    measured = re.findall(r"^(\w+) +\d+\.\d\d(?: +\d+\.\d\d × \w+)?$", out, re.MULTILINE)
    assert measured == ["fp32", "ptq", "int8", "softmax"]
    assert f"Would serve colours, variant {served}, on" in out


def test_check_looks_at_the_admin_token_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_ADMIN_TOKEN_FILE", str(tmp_path / "none"))
    assert main(["check"]) == 2
    assert "none: No such file" in one_line(capfd.readouterr().err)


def test_check_finds_a_variant_that_is_not_even_served(
    colours: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    bundle = shutil.copytree(colours.path, tmp_path / "bundle")
    (bundle / "int8.tflite").write_bytes(b"something else")
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(bundle))
    assert main(["check"]) == 2
    assert "int8.tflite has 14 bytes, but the manifest says" in one_line(capfd.readouterr().err)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("EDGEWISE_VARIANT", "nope", "no variant 'nope'; it has: fp32, int8, ptq, softmax"),
        ("EDGEWISE_PROT", "80", "the nearest is EDGEWISE_PORT"),
        ("EDGEWISE_DELEGATE", "tpu", "should be one of xnnpack, none, edgetpu, nnapi, gpu, or the absolute"),
        ("EDGEWISE_DELEGATE", "nnapi", "delegate nnapi exists only on Android"),
    ],
)
def test_check_tells_what_is_wrong_in_one_line(
    name: str,
    value: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    assert main(["check"]) == 2
    captured = capfd.readouterr()
    assert told in one_line(captured.err)
    assert captured.out == ""


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
    fp32 = rf"^fp32 +93\.33 \(70\.2–98\.8\) +100\.00 \(79\.6–100\.0\) +({ece})$"
    ptq = rf"^ptq +93\.33 .* ({ece}) +100\.00 \(79\.6–100\.0\) +0\.\d{{4}} ± 0\.\d{{4}} +0 +0$"
    told = [re.search(row, captured.out, re.MULTILINE) for row in (fp32, ptq)]
    assert "15/15" in captured.err
    result = json.loads(file.read_text())
    assert (result["bundle"], result["delegate"]) == ("colours", "xnnpack")
    evaluations = {name: Evaluation.model_validate(e) for name, e in result["evaluations"].items()}
    assert list(evaluations) == ["fp32", "ptq"]
    assert {(e.top1.count, e.top5.count, e.crop, e.dataset.images) for e in evaluations.values()} == {
        (14, 15, "none", 15)
    }
    assert [match and float(match[1]) for match in told] == [
        round(100 * evaluation.ece, 2) for evaluation in evaluations.values()
    ]


def test_evaluate_compares_with_the_variant_that_is_named(
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
    assert re.search(r"^ptq +93\.33 \S+ +100\.00 \S+ +\d+\.\d\d$", out, re.MULTILINE)
    assert re.search(r"^int8 .* 100\.00 \(79\.6–100\.0\) +0\.\d{4} ± 0\.\d{4} +0 +0$", out, re.MULTILINE)
    evaluation = Evaluation.model_validate(json.loads(file.read_text())["evaluations"]["int8"])
    assert [comparison.against for comparison in evaluation.comparisons] == ["ptq"]
    assert main([*command, "--against", "fp32"]) == 2
    assert one_line(capfd.readouterr().err) == "--against fp32 must be one of those evaluated: ptq, int8"


def test_evaluate_takes_another_bundle_and_all_its_variants(
    folder: Path, colours: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_BUNDLE", "/nonexistent")
    assert main(["evaluate", str(folder), "--bundle", str(colours.path)]) == 0
    names = re.findall(r"^(\w+) +93\.33", capfd.readouterr().out, re.MULTILINE)
    assert names == list(colours.manifest.variants)


def test_evaluate_refuses_images_of_the_training_unless_told_and_then_marks_them(
    folder: Path, colours: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = [sha256_of(folder / colour / "1.png")[:16] for colour in ("red", "blue")]
    bundle = altered(colours, tmp_path / "bundle", {SEEN_IMAGES: lines(seen)})
    command = ["evaluate", str(folder), "--bundle", str(bundle.path)]
    assert main(command) == 2
    assert "2 of the 15 images" in one_line(capfd.readouterr().err)
    assert main([*command, "--allow-seen"]) == 0
    marked = "NOT TEST ACCURACY: the network was trained or calibrated on 2 of these images"
    assert marked in capfd.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "purple").mkdir(), "purple is named after no class"),
        (lambda folder: (folder / "red" / "0.png").write_bytes(b"x"), "not an image in a supported format"),
        (
            lambda folder: shutil.copy(folder / "blue" / "0.png", folder / "red" / "copy.png"),
            "red/copy.png are the same image in the folders of two classes",
        ),
    ],
)
def test_evaluate_tells_what_is_wrong_with_the_folder(
    folder: Path, spoil: Callable[[Path], None], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(folder)
    assert main(["evaluate", str(folder)]) == 2
    assert told in one_line(capfd.readouterr().err)


def test_benchmark_prints_a_table_and_writes_the_same_as_json(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "result.json"
    assert main(["benchmark", "--variants", "ptq,fp32", "--runs", "20", "--json", str(file)]) == 0
    out = capfd.readouterr().out
    assert re.match(r"ai-edge-litert \S+, delegate xnnpack, one thread, 20 inferences each", out)
    assert "\nTaken by xnnpack:\nptq: " in out
    assert "\nfp32: 3 of 3 operators in 1 partition\n" in out
    rows = dict(re.findall(r"^(ptq|fp32) +(.*)$", out, re.MULTILINE))
    result = json.loads(file.read_text())
    assert [variant["variant"] for variant in result["variants"]] == ["ptq", "fp32"] == list(rows)
    for variant in result["variants"]:
        told = [float(cell) for cell in rows[variant["variant"]].split()]
        assert told == [
            round(variant["bytes"] / 1e6, 1),
            round(variant["p50_seconds"] * 1e3, 2),
            round(variant["p99_seconds"] * 1e3, 2),
            round(variant["mean_seconds"] * 1e3, 2),
            round(variant["speedup"], 2),
            round(variant["load_seconds"], 2),
            round(variant["resident_bytes"] / 1e6, 0),
        ]
        assert variant["against"] == "fp32"
        assert variant["runs"] == 20
        assert variant["joules"] is None


def test_benchmark_tells_joules_where_they_are_counted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree(tmp_path / "sys", rapl("0", "package-0", 0), rapl("0:0", "core", 0))
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(DEFAULT_BUNDLE))
    monkeypatch.setenv("EDGEWISE_SYSFS_ROOT", str(root))
    file = tmp_path / "result.json"
    started = time.monotonic()
    with counting(root / "class/powercap/intel-rapl:0/energy_uj", watts=10):
        assert main(["benchmark", "--variants", "fp32", "--runs", "10", "--json", str(file)]) == 0
    out = capfd.readouterr().out
    (result,) = json.loads(file.read_text())["variants"]
    # Of ten watts, as long as it takes: ten inferences, and the first one of their turn.
    assert 0 < result["joules"] < 10 * (time.monotonic() - started) / 11
    (cell,) = re.findall(r"^variant .* mJ\nfp32 .* ([\d.]+)$", out, re.MULTILINE)
    assert float(cell) == pytest.approx(1e3 * result["joules"], abs=0.005)


def test_profile_prints_tables_and_writes_all_operators_as_json(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "profile.json"
    command = ["profile", "--variants", "ptq,fp32", "--runs", "3", "--top", "2"]
    assert main([*command, "--json", str(file), "--name", "a board"]) == 0
    captured = capfd.readouterr()
    assert re.match(r"ai-edge-litert \S+, delegate xnnpack, one thread, medians of 3 rounds\n", captured.out)
    assert "3/3" in captured.err
    written = Profile.model_validate_json(file.read_text())
    assert (written.bundle, written.threads, written.device.name) == ("colours", 1, "a board")
    assert written.software == describe_software(Delegate.XNNPACK)
    assert list(written.variants) == ["ptq", "fp32"]
    told = captured.out.split("\n\n")
    for number, (name, result) in enumerate(written.variants.items()):
        head, rows, kinds = told[1 + 3 * number : 4 + 3 * number]
        assert head == (
            f"{name}: the whole graph {1e3 * result.p50_seconds:.2f} ms,"
            f" its {len(result.operators)} operators one by one {1e3 * result.sum_seconds:.2f} ms,"
            f" {result.sum_ratio:.2f} of that"
        )
        dearest = sorted(result.operators, key=lambda o: -(o.p50_seconds or 0))[:2]
        shown = [line.split() for line in rows.splitlines()[1:]]
        assert [(row[1], row[-2], row[-1]) for row in shown] == [
            (str(o.index), f"{1e3 * (o.p50_seconds or 0):.3f}", f"{100 * (o.share or 0):.1f}")
            for o in dearest
        ]
        assert {row[3] for row in shown} <= {"xnnpack", "none"}
        assert sum(float(share) for share in re.findall(r"([\d.]+) %", kinds)) == pytest.approx(100, abs=0.5)


def test_profile_takes_the_delegate_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_DELEGATE", "none")
    assert main(["profile", "--variants", "ptq", "--runs", "1"]) == 0
    out = capfd.readouterr().out
    assert "delegate none, one thread" in out
    assert re.findall(r" (none|xnnpack) +\S+ +\S+ +[\d.]+ +[\d.]+$", out, re.MULTILINE) == ["none"] * 4


def test_profile_names_kinds_that_are_measured_together(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(DEFAULT_BUNDLE))
    assert main(["profile", "--variants", "fp16", "--runs", "1"]) == 0
    (kinds,) = re.findall("^By kind: (.*)$", capfd.readouterr().out, re.MULTILINE)
    counts = dict(re.findall(r"(\S+) \((\d+)\)", kinds))
    assert (counts["DEQUANTIZE+CONV_2D"], counts["LOGISTIC+MUL"], counts["LOGISTIC"]) == ("75", "55", "16")
    assert "DEQUANTIZE" not in counts


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--name", "a board"], "--name would have no effect without --json FILE; add that"),
        (["--json", "{folder}/a.json"], "neither a device tree nor DMI says what device this is; name it"),
        (["--bundle", "/nonexistent"], "/nonexistent"),
    ],
)
def test_profile_tells_what_is_wrong_before_it_measures(
    options: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("EDGEWISE_SYSFS_ROOT", str(write_tree(tmp_path / "sys", {"class/none": ""})))
    assert main(["profile", *(option.format(folder=tmp_path) for option in options)]) == 2
    captured = capfd.readouterr()
    assert told in one_line(captured.err)
    assert captured.out == ""


def test_nothing_is_profiled_under_emulation(tmp_path: Path) -> None:
    device = describe_device("qemu", tmp_path).model_copy(update={"emulated": True})
    with pytest.raises(StartError, match="is emulated here: times of operators would mean nothing"):
        profile(Settings(), device, tmp_path / "a.json", variants=None, runs=1, top=1)
    assert not (tmp_path / "a.json").exists()


def test_a_result_that_can_not_be_written_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "no such folder" / "result.json"
    assert main(["benchmark", "--variants", "ptq", "--runs", "10", "--json", str(file)]) == 2
    captured = capfd.readouterr()
    assert "no such folder is no folder that this user may write to" in one_line(captured.err)
    # It is found out before the benchmark, whose table would be lost.
    assert captured.out == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is absent")
@pytest.mark.parametrize(
    ("command", "table"),
    [
        (["benchmark", "--variants", "ptq", "--runs", "10"], r"^ptq +0\.0 "),
        (["profile", "--variants", "ptq", "--runs", "1", "--name", "a board"], "^By kind: "),
        (["evaluate", "{photos}", "--variants", "ptq"], r"^ptq +93\.33 "),
    ],
)
def test_the_table_is_shown_though_the_disk_is_full(
    command: list[str], table: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*(part.format(photos=folder) for part in command), "--json", "/dev/full"]) == 2
    captured = capfd.readouterr()
    assert one_line(captured.err) == "/dev/full can't be written: No space left on device"
    assert re.search(table, captured.out, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["evaluate"],
        ["benchmark", "--runs", "0"],
        ["profile", "--top", "0"],
        ["profile", "--runs", "1000000001"],
        ["profile", "--runs", "9" * 5000],
        ["evaluate", "x", "--crop", "half"],
        ["--nope"],
    ],
)
def test_a_wrong_command_line_ends_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_photos_are_evaluated_within_the_service_s_limits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_MAX_PIXELS", "100")
    assert main(["evaluate", str(folder)]) == 2
    assert "the limit is 100 pixels" in capsys.readouterr().err
