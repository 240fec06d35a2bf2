import logging
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from service.monitoring import sensors as sensors_module
from service.monitoring.sensors import Sensors, watched
from tests.rights import as_an_ordinary_user
from tests.sensors.boards import INTEL_NUC, JETSON_ORIN_NANO, RASPBERRY_PI_4, write_tree
from tests.system.processes import wait_for


def exposed(registry: CollectorRegistry) -> dict[str, float]:
    """Every sample, by its name and label as the text format writes them."""
    lines = generate_latest(registry).decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def registered(sensors: Sensors) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(sensors)
    return registry


def test_readings_are_exposed(tmp_path: Path) -> None:
    sensors = Sensors(write_tree(tmp_path, JETSON_ORIN_NANO))
    sensors.read()
    assert exposed(registered(sensors)) == {
        'edgewise_energy_joules_total{domain="VDD_IN"}': 0.0,
        'edgewise_energy_joules_total{domain="VDD_IN/VDD_CPU_GPU_CV"}': 0.0,
        'edgewise_energy_joules_total{domain="VDD_IN/VDD_SOC"}': 0.0,
        'edgewise_temperature_celsius{zone="cpu-thermal"}': pytest.approx(47.593),
        'edgewise_temperature_celsius{zone="gpu-thermal"}': 48.125,
        'edgewise_temperature_celsius{zone="tj-thermal"}': 48.125,
        'edgewise_cpu_frequency_hertz{cpu="0"}': 1510400000.0,
        'edgewise_cpu_frequency_limit_hertz{cpu="0"}': 1510400000.0,
    }


def test_without_sensors_nothing_is_exposed(tmp_path: Path) -> None:
    sensors = Sensors(tmp_path)
    sensors.read()
    assert generate_latest(registered(sensors)) == b""
    assert not sensors


def test_sensors_that_do_not_answer_are_left_out_until_they_do(tmp_path: Path) -> None:
    sensors = Sensors(write_tree(tmp_path, RASPBERRY_PI_4))
    registry = registered(sensors)
    assert exposed(registry) == {}
    sensors.read()
    assert len(exposed(registry)) == 9
    file = tmp_path / "class/thermal/thermal_zone0/temp"
    file.unlink()
    sensors.read()
    assert not any("temperature" in name for name in exposed(registry))
    assert len(exposed(registry)) == 8
    file.write_text("60000\n")
    sensors.read()
    assert exposed(registry)['edgewise_temperature_celsius{zone="cpu-thermal"}'] == 60


def test_a_reading_that_is_too_old_is_not_exposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sensors = Sensors(write_tree(tmp_path, RASPBERRY_PI_4))
    sensors.read()
    registry = registered(sensors)
    assert exposed(registry)
    monkeypatch.setattr(sensors_module, "MAX_AGE_SECONDS", 0.001)
    time.sleep(0.002)
    assert exposed(registry) == {}


def test_the_log_lists_the_sensors_and_the_unreadable_files(
    open_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_tree(open_path, INTEL_NUC)
    rapl = sorted(open_path.glob("class/powercap/intel-rapl:*/energy_uj"))
    for file in rapl:
        file.chmod(0o400)
    registry = CollectorRegistry()
    with as_an_ordinary_user(), caplog.at_level(logging.INFO), watched(open_path, registry):
        wait_for(lambda: bool(exposed(registry)))
        samples = exposed(registry)
    assert not any("energy" in name for name in samples)
    assert samples['edgewise_cpu_frequency_hertz{cpu="0"}'] == 3.6e9
    found, forbidden = caplog.records
    assert found.message == "sensors found"
    assert found.fields["temperature"][2:] == ["x86_pkg_temp", "nvme:Composite"]  # type: ignore[attr-defined]
    assert forbidden.levelname == "WARNING"
    assert len(rapl) == 5
    assert sorted(forbidden.fields["files"]) == [str(file) for file in rapl]  # type: ignore[attr-defined]


def test_readings_are_exposed_only_while_sensors_are_watched(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    root = write_tree(tmp_path, RASPBERRY_PI_4)
    for _ in range(2):
        with watched(root, registry):
            wait_for(lambda: bool(exposed(registry)))
        assert exposed(registry) == {}
