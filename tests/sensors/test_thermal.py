from pathlib import Path

import pytest

from service.sensors.thermal import Sensor, frequencies, frequency_limits, temperatures
from tests.sensors.boards import (
    CORAL_DEV_BOARD,
    INTEL_NUC,
    JETSON_NANO,
    RASPBERRY_PI_4,
    RASPBERRY_PI_5,
    Tree,
    chip,
    cpu,
    write_tree,
    zone,
)


def values(sensors: list[Sensor]) -> dict[str, float]:
    return {sensor.name: sensor.value() for sensor in sensors}


@pytest.mark.parametrize(
    ("board", "celsius"),
    [
        pytest.param(RASPBERRY_PI_4, {"cpu-thermal": 56.478}, id="raspberry-pi-4"),
        pytest.param(RASPBERRY_PI_5, {"cpu-thermal": 53.7, "rp1_adc": 55.472}, id="raspberry-pi-5"),
        pytest.param(JETSON_NANO, {"AO-therm": 38.5, "CPU-therm": 30.5, "PMIC-Die": 100.0}, id="jetson-nano"),
        pytest.param(CORAL_DEV_BOARD, {"cpu-thermal": 52.0, "apex_0": 54.55}, id="coral-dev-board"),
    ],
)
def test_every_temperature_of_a_board_is_read_once(
    tmp_path: Path, board: Tree, celsius: dict[str, float]
) -> None:
    assert values(temperatures(write_tree(tmp_path, board))) == pytest.approx(celsius)


def test_zones_of_one_name_are_told_apart_and_absurd_values_refused(tmp_path: Path) -> None:
    sensors = {sensor.name: sensor for sensor in temperatures(write_tree(tmp_path, INTEL_NUC))}
    assert list(sensors) == ["acpitz@thermal_zone0", "acpitz@thermal_zone1", "x86_pkg_temp", "nvme:Composite"]
    assert sensors["acpitz@thermal_zone1"].value() == pytest.approx(27.8)
    assert sensors["nvme:Composite"].value() == pytest.approx(32.85)
    sensors["acpitz@thermal_zone0"].files[0].write_text("-274000")
    with pytest.raises(ValueError, match=r"less than -273\.15"):
        sensors["acpitz@thermal_zone0"].value()


def test_temperatures_may_be_below_0(tmp_path: Path) -> None:
    tree = {**zone(0, "soc_thermal", "-12500"), **zone(1, "board", "0")}
    assert values(temperatures(write_tree(tmp_path, tree))) == {"soc_thermal": -12.5, "board": 0.0}


def test_core_temperatures_are_read_if_no_zone_covers_the_package(tmp_path: Path) -> None:
    files = {"temp1_label": "Package id 0", "temp1_input": "41000", "temp3_label": "Core 1"}
    tree = chip(0, "platform/coretemp.0", "coretemp", **files, temp3_input="40000")
    expected = {"coretemp:Package id 0": 41.0, "coretemp:Core 1": 40.0}
    assert values(temperatures(write_tree(tmp_path, tree))) == expected


def test_a_zone_without_a_name_is_named_by_its_number(tmp_path: Path) -> None:
    tree = {**zone(10, "", "1000"), **zone(9, 'a"b\\c\u00e9', "2000")}
    root = write_tree(tmp_path, tree)
    assert list(values(temperatures(root))) == ["a_b_cé", "thermal_zone10"]
    (root / "class/thermal/thermal_zone9/type").write_bytes(b"\xff\xfe\n")
    assert list(values(temperatures(root))) == ["thermal_zone9", "thermal_zone10"]


def test_the_frequencies_of_all_cpus_are_read_in_order(tmp_path: Path) -> None:
    root = write_tree(tmp_path, RASPBERRY_PI_4, cpu(10, 700000, 1500000))
    assert values(frequencies(root)) == {**{str(number): 1.5e9 for number in range(4)}, "10": 7e8}
    limits = {**{str(number): 1.8e9 for number in range(4)}, "10": 1.5e9}
    assert values(frequency_limits(root)) == limits


def test_throttling_does_not_lower_the_frequency_limit(tmp_path: Path) -> None:
    root = write_tree(tmp_path, cpu(0, 1000000, 1500000, scaling_max_freq="1000000"))
    assert values(frequency_limits(root)) == {"0": 1.5e9}
    (root / "devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").unlink()
    assert values(frequency_limits(root)) == {"0": 1.0e9}
