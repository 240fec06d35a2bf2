"""`python -m service benchmark --report`, for real, on a small bundle and the sensors of a NUC."""

import getpass
import json
import re
import shutil
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from service import VERSION
from service.__main__ import main
from service.bundle.folder import Bundle, sha256_of
from service.bundle.manifest import SEEN_IMAGES
from service.commands.device import describe_device
from service.commands.report import report
from service.errors import StartError
from service.images.pixels import Crop
from service.inference.runtime import RUNTIME
from service.results.report import Device, DeviceReport
from service.settings import Settings
from tests.colours import RGB, altered, lines
from tests.sensors.boards import INTEL_NUC, SERIAL, counting, write_tree
from tests.system.processes import run

WORKERS = 2


@dataclass(frozen=True)
class Made:
    """A report, its text, the command's output, and the file with the benchmark's JSON."""

    report: DeviceReport
    text: str
    out: str
    benchmark: Path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name must not get into the report."""
    return tmp_path_factory.mktemp("graces-home")


@pytest.fixture(scope="module")
def photos(home: Path) -> Path:
    """Two photos of each colour; one of the red ones is really blue."""
    folder = home / "photos of grace"
    for colour in RGB:
        (folder / colour).mkdir(parents=True)
        for side in (30, 31):
            wrong = (colour, side) == ("red", 31)
            image = Image.new("RGB", (41 if wrong else 40, side), RGB["blue" if wrong else colour])
            image.save(folder / colour / f"{side}.png")
    return folder


@pytest.fixture(scope="module")
def made(colours: Bundle, home: Path, photos: Path) -> Made:
    root = write_tree(home / "sys", INTEL_NUC)
    bundle = shutil.copytree(colours.path, home / "bundle")
    file, benchmark = home / "device.json", home / "benchmark.json"
    command = ["benchmark", "--variants", "fp32,ptq", "--runs", "20", "--json", benchmark]
    command += ["--report", file, "--photos", photos, "--crop", "none"]
    with counting(root / "class/powercap/intel-rapl:0/energy_uj", watts=10):
        result = run(*command, bundle=bundle, sysfs_root=root, workers=WORKERS)
    assert result.returncode == 0, result.stderr
    text = file.read_text()
    return Made(DeviceReport.model_validate_json(text), text, result.stdout, benchmark)


def test_the_report_describes_the_device(made: Made, home: Path) -> None:
    assert made.report.device == describe_device(None, home / "sys")
    assert made.report.device.name == "Intel(R) Client Systems NUC8i7BEH"
    assert made.report.device.governor == "powersave"
    software = made.report.software
    assert (software.runtime, software.delegate, software.service) == (RUNTIME, "xnnpack", VERSION)
    assert abs((datetime.now(UTC).date() - made.report.date).days) <= 1
    heat = made.report.heat
    assert heat is not None
    assert heat.before == heat.after
    assert heat.after.items() >= {"x86_pkg_temp": 41.0, "acpitz@thermal_zone1": 27.8}.items()
    assert heat.clock is not None
    assert (heat.clock.median, heat.clock.lowest) == (pytest.approx(0.8), pytest.approx(0.8))


def test_the_report_has_the_results_of_every_variant(made: Made, colours: Bundle) -> None:
    assert made.report.bundle == "colours"
    assert list(made.report.variants) == ["fp32", "ptq"]
    for name, variant in made.report.variants.items():
        declared = colours.variant(name)
        assert (variant.sha256, variant.bytes) == (declared.sha256, declared.bytes)
        assert 0 < variant.taken <= variant.operators
        assert variant.accuracy is not None
        assert (variant.accuracy.images, variant.accuracy.crop) == (10, "none")
        assert (variant.accuracy.top1.count, variant.accuracy.top5.count) == (9, 10)
        speed = variant.speed
        assert speed is not None
        assert speed.runs == 20
        assert speed.p50_seconds <= speed.p99_seconds
        assert speed.resident_bytes is None or speed.resident_bytes > 20e6
        assert [throughput.workers for throughput in speed.throughput] == [1, 2]
        assert speed.joules is not None
        # Ten watts for all inferences; the rate leaves out each worker's first one, so this is approximate.
        per_second = speed.throughput[-1].per_second
        assert speed.joules == pytest.approx(10 / per_second, rel=0.5)
    fp32, ptq = (variant.accuracy for variant in made.report.variants.values())
    assert fp32 is not None
    assert ptq is not None
    assert fp32.agreement is None
    assert ptq.agreement is not None
    assert ptq.agreement.count == 10


def test_the_report_has_the_numbers_of_the_benchmark(made: Made) -> None:
    for result in json.loads(made.benchmark.read_text())["variants"]:
        speed = made.report.variants[result["variant"]].speed
        assert speed is not None
        assert {name: getattr(speed, name) for name in ("p50_seconds", "p99_seconds", "load_seconds")} == {
            name: result[name] for name in ("p50_seconds", "p99_seconds", "load_seconds")
        }


def test_the_report_s_own_measurements_are_printed(made: Made) -> None:
    assert re.search(r"^inferences/s +1 at once +2 at once$", made.out, re.MULTILINE)
    assert re.search(r"^ptq +[\d.]+ +[\d.]+$", made.out, re.MULTILINE)
    assert made.out.endswith("device.json: the report of Intel(R) Client Systems NUC8i7BEH\n")


def test_the_report_does_not_identify_its_owner(made: Made, home: Path) -> None:
    secrets = [str(home), "grace", "photos of", SERIAL, str(Path.home()), str(Path.cwd())]
    assert [secret for secret in secrets if len(secret) > 1 and secret in made.text] == []
    words = set(re.findall(r"[\w.-]+", made.text.lower()))
    assert not {socket.gethostname().lower(), getpass.getuser().lower()} & words


@pytest.fixture
def settings(colours: Bundle, tmp_path: Path) -> Settings:
    (tmp_path / "sys").mkdir()
    return Settings(bundle=colours.path, sysfs_root=tmp_path / "sys", workers=1)


@pytest.fixture
def emulated(settings: Settings) -> Device:
    return describe_device("qemu, Cortex-A72", settings.sysfs_root).model_copy(update={"emulated": True})


def test_under_emulation_no_speed_is_measured(
    settings: Settings, emulated: Device, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "device.json"
    options = {"photos": photos, "crop": Crop.BUNDLE, "variants": ["ptq"], "runs": 20}
    report(settings, emulated, file, **options, json_file=None)
    written = DeviceReport.model_validate_json(file.read_text())
    assert written.device.emulated
    assert written.heat is None
    (variant,) = written.variants.values()
    assert variant.speed is None
    assert variant.accuracy is not None
    assert "is emulated here: no speeds are measured" in capfd.readouterr().out
    with pytest.raises(StartError, match="would contain speeds, which mean nothing under emulation"):
        report(settings, emulated, file, **options, json_file=tmp_path / "benchmark.json")


@pytest.fixture
def nameless(colours: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system whose firmware has no name of it; returns the path for a report."""
    (tmp_path / "sys").mkdir()
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(colours.path))
    monkeypatch.setenv("EDGEWISE_SYSFS_ROOT", str(tmp_path / "sys"))
    return tmp_path / "device.json"


def error(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["benchmark", *map(str, arguments)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    return line.removeprefix("edgewise: ")


def test_options_without_effect_are_refused(nameless: Path, capfd: pytest.CaptureFixture[str]) -> None:
    message = "--name and --crop would have no effect without --report FILE; add that"
    assert error(capfd, "--name", "Pi", "--crop", "none") == message


def test_an_unwritable_file_is_refused_before_measuring(
    nameless: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = nameless.parent / "none" / "device.json"
    message = f"{file} can't be written: {file.parent} is not a folder that this user can write to"
    assert error(capfd, "--report", file, "--name", "a board") == message


def test_unusable_photos_are_refused_before_measuring(
    nameless: Path, colours: Bundle, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["--report", nameless, "--name", "a board", "--photos"]
    assert "can't be read: No such file" in error(capfd, *command, tmp_path / "none")
    seen = altered(
        colours, tmp_path / "seen", {SEEN_IMAGES: lines([sha256_of(photos / "blue" / "30.png")[:16]])}
    )
    assert "1 of the 10 images" in error(capfd, *command, photos, "--bundle", seen.path)
    assert not nameless.exists()


def test_a_device_without_a_name_must_be_given_one(nameless: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if "Model\t" in Path("/proc/cpuinfo").read_text():
        pytest.skip("this board's /proc/cpuinfo names it")
    assert error(capfd, "--report", nameless).endswith("name it: --name 'Raspberry Pi 5'")


def test_one_file_for_both_results_is_refused_however_it_is_spelled(
    nameless: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (nameless.parent / "link.json").symlink_to(nameless)
    for other in (nameless, nameless.parent / "sys" / ".." / nameless.name, nameless.parent / "link.json"):
        message = error(capfd, "--report", nameless, "--name", "a board", "--json", other)
        assert message.startswith("--json and --report can't both be ")
    assert not nameless.exists()
