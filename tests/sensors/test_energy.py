import math
import os
from pathlib import Path

import pytest

from service.sensors.energy import (
    EnergyCounter,
    PowerSensor,
    counted_joules,
    energy_sensors,
    forbidden_counters,
    is_whole,
)
from tests.rights import as_an_ordinary_user
from tests.sensors.boards import (
    CORAL_DEV_BOARD,
    INA219,
    INTEL_NUC,
    JETSON_AGX_ORIN,
    JETSON_NANO,
    JETSON_ORIN_NANO,
    RASPBERRY_PI_4,
    RASPBERRY_PI_5,
    Tree,
    chip,
    rails,
    rapl,
    write_tree,
)


def domains(root: Path) -> list[str]:
    return [sensor.domain for sensor in energy_sensors(root)]


def watts(root: Path) -> dict[str, float]:
    """The joules of one second at the present power; counters do not change here and give 0."""
    sensors = energy_sensors(root)
    for sensor in sensors:
        assert sensor.joules(10.0) == 0
    return {sensor.domain: sensor.joules(11.0) for sensor in sensors}


@pytest.mark.parametrize("board", [RASPBERRY_PI_4, RASPBERRY_PI_5, CORAL_DEV_BOARD, {}])
def test_boards_without_a_sensor_have_none(tmp_path: Path, board: Tree) -> None:
    assert domains(write_tree(tmp_path, board)) == []


def test_packages_differ_from_their_parts_and_are_counted_once(tmp_path: Path) -> None:
    found = domains(write_tree(tmp_path, INTEL_NUC))
    assert found == ["package-0", "package-0/core", "package-0/uncore", "dram-0", "psys"]
    assert [domain for domain in found if is_whole(domain)] == ["package-0", "dram-0"]


def test_dies_and_second_packages_have_their_own_names(tmp_path: Path) -> None:
    tree = {
        **rapl("0", "package-0-die-0", 1),
        **rapl("1", "package-1-die-0", 1),
        **rapl("1:0", "dram", 1),
    }
    assert domains(write_tree(tmp_path, tree)) == ["package-0-die-0", "package-1-die-0", "dram-1-die-0"]


def test_rails_of_a_jetson_are_parts_of_its_supply(tmp_path: Path) -> None:
    assert watts(write_tree(tmp_path, JETSON_ORIN_NANO)) == pytest.approx(
        {
            "VDD_IN": 5.056 * 1.008,
            "VDD_IN/VDD_CPU_GPU_CV": 5.056 * 0.2,
            "VDD_IN/VDD_SOC": 5.048 * 0.296,
        }
    )


def test_the_milliwatts_of_jetson_linux_32_are_read(tmp_path: Path) -> None:
    assert watts(write_tree(tmp_path, JETSON_NANO)) == pytest.approx(
        {"POM_5V_IN": 2.471, "POM_5V_IN/POM_5V_GPU": 0.123, "POM_5V_IN/POM_5V_CPU": 0.535}
    )


def test_without_a_rail_for_all_the_rails_that_add_up_are_whole(tmp_path: Path) -> None:
    found = domains(write_tree(tmp_path, JETSON_AGX_ORIN))
    assert found == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VIN_SYS_5V0/VDDQ_VDD2_1V8AO"]


def test_the_power_of_a_chip_on_the_supply_is_read(tmp_path: Path) -> None:
    assert watts(write_tree(tmp_path, RASPBERRY_PI_5, INA219)) == pytest.approx({"ina219": 3.09})


def test_a_battery_is_no_sensor(tmp_path: Path) -> None:
    device = "platform/acpi/power_supply/BAT0"
    tree = chip(0, device, "BAT0", power1_input="45000000") | {f"devices/{device}/type": "Battery"}
    assert energy_sensors(write_tree(tmp_path, tree)) == []


def test_chips_of_one_name_are_told_apart_by_their_address(tmp_path: Path) -> None:
    tree = {
        **chip(0, "i2c-1/1-0041", "ina226", power1_input="1"),
        **chip(1, "i2c-1/1-0040", "ina226", power1_input="1"),
        **chip(2, "i2c-1/1-0044", "ina226", label="camera", power1_input="1"),
    }
    assert domains(write_tree(tmp_path, tree)) == ["ina226@1-0041", "ina226@1-0040", "camera"]


def test_the_power_of_a_chip_that_counts_energy_is_not_read(tmp_path: Path) -> None:
    tree = chip(
        0,
        "platform/scmi",
        "scmi_sensors",
        energy1_input="1",
        energy1_label="big/cluster",
        energy2_input="1",
        power1_input="1",
    )
    assert domains(write_tree(tmp_path, tree)) == ["scmi_sensors:big_cluster", "scmi_sensors:energy2"]


def test_rails_without_labels_are_numbered_and_not_parts_of_the_supply(tmp_path: Path) -> None:
    added = rails(5, "i2c-7/7-0042", ("", 5000, 1000), ("", 3300, 100))
    found = domains(write_tree(tmp_path, JETSON_ORIN_NANO, added))
    assert found == ["VDD_IN", "VDD_IN/VDD_CPU_GPU_CV", "VDD_IN/VDD_SOC", "ina3221:1", "ina3221:2"]


def test_a_counter_that_wraps_around_keeps_growing(tmp_path: Path) -> None:
    file = write_tree(tmp_path, {"energy_uj": "900"}) / "energy_uj"
    counter = EnergyCounter("package-0", file, range_microjoules=1000)
    totals = []
    for microjoules in (900, 950, 150, 150, 160):
        file.write_text(str(microjoules))
        totals.append(counter.joules(0.0))
    assert totals == pytest.approx([0, 50e-6, 250e-6, 250e-6, 260e-6])


@pytest.mark.parametrize("range_microjoules", [1000, 0])
def test_a_counter_that_was_reset_adds_nothing(tmp_path: Path, range_microjoules: int) -> None:
    file = write_tree(tmp_path, {"energy_uj": "600"}) / "energy_uj"
    counter = EnergyCounter("package-0", file, range_microjoules)
    totals = []
    for microjoules in (600, 590, 595):
        file.write_text(str(microjoules))
        totals.append(counter.joules(0.0))
    assert totals == pytest.approx([0, 0, 5e-6])


def test_power_is_integrated_with_the_mean_of_two_readings(tmp_path: Path) -> None:
    file = write_tree(tmp_path, {"power1_input": "0"}) / "power1_input"
    sensor = PowerSensor("ina219", (file,), 1e-6)
    totals = []
    for seconds, microwatts in [(0.0, 1e6), (1.0, 3e6), (3.0, 1e6), (4.0, -2e6), (100.0, 5e6), (101.0, 5e6)]:
        file.write_text(str(int(microwatts)))
        totals.append(sensor.joules(seconds))
    # Negative power spends no energy, and nothing is known of a long gap.
    assert totals == pytest.approx([0, 2, 6, 6.5, 6.5, 11.5])


def test_a_sensor_that_failed_continues_from_its_last_reading(tmp_path: Path) -> None:
    file = write_tree(tmp_path, {"energy_uj": "100"}) / "energy_uj"
    counter = EnergyCounter("package-0", file, 1000)
    assert counter.joules(0.0) == 0
    file.unlink()
    with pytest.raises(FileNotFoundError):
        counter.joules(1.0)
    file.write_text("130")
    assert counter.joules(2.0) == pytest.approx(30e-6)


@pytest.mark.parametrize("content", ["", "12 34", "nan", "1e6", "0x10", "9" * 90, "9" * 5000, "\xff\x00"])
def test_a_reading_that_is_no_number_is_refused(tmp_path: Path, content: str) -> None:
    file = write_tree(tmp_path, {"energy_uj": content}) / "energy_uj"
    with pytest.raises(ValueError, match=r"invalid literal|does not hold a 64-bit number"):
        EnergyCounter("package-0", file).joules(0.0)


def test_a_pipe_or_a_folder_in_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="invalid literal"):
        EnergyCounter("a", tmp_path / "pipe").joules(0.0)
    with pytest.raises(IsADirectoryError):
        EnergyCounter("a", tmp_path).joules(0.0)


def test_a_zone_whose_range_is_unknown_is_counted_anyway(tmp_path: Path) -> None:
    tree = rapl("0", "package-0", 5)
    root = write_tree(
        tmp_path, {**tree, "devices/virtual/powercap/intel-rapl/intel-rapl:0/max_energy_range_uj": "?"}
    )
    (sensor,) = energy_sensors(root)
    assert isinstance(sensor, EnergyCounter)
    assert sensor.range_microjoules == 0


def test_a_broken_link_is_no_sensor(tmp_path: Path) -> None:
    # As in a container that hides /sys/devices/virtual/powercap.
    assert domains(write_tree(tmp_path, {"class/powercap/intel-rapl:0": "-> ../../nowhere"})) == []


def test_counted_joules_are_the_sum_over_whole_domains(tmp_path: Path) -> None:
    root = write_tree(tmp_path, INTEL_NUC, INA219)
    joules = counted_joules(root)
    assert joules is not None
    assert joules() == 0
    # Package, its cores, the memory, the platform.
    for zone, microjoules in {"0": 10_000_000, "0:0": 4_000_000, "0:2": 500_000, "1": 90_000_000}.items():
        file = root / f"class/powercap/intel-rapl:{zone}/energy_uj"
        file.write_text(str(int(file.read_text()) + microjoules))
    assert joules() == pytest.approx(10.5)
    (root / "class/powercap/intel-rapl:0:2/energy_uj").unlink()
    assert math.isnan(joules())
    assert counted_joules(root) is not None  # The counter of the package is left.
    (root / "class/powercap/intel-rapl:0/energy_uj").write_text("?")
    assert counted_joules(root) is None


def test_power_sensors_have_no_counted_joules(tmp_path: Path) -> None:
    assert counted_joules(write_tree(tmp_path, JETSON_ORIN_NANO)) is None


def test_only_counters_of_wholes_are_reported_as_forbidden(open_path: Path) -> None:
    root = write_tree(open_path, INTEL_NUC)
    zones = root / "class/powercap"
    for zone in ("0:0", "1"):  # The cores, the platform.
        (zones / f"intel-rapl:{zone}/energy_uj").chmod(0)
    with as_an_ordinary_user():
        assert forbidden_counters(root) == []
        assert counted_joules(root) is not None
    memory = zones / "intel-rapl:0:2/energy_uj"
    memory.chmod(0)
    with as_an_ordinary_user():
        assert forbidden_counters(root) == [memory]
        assert counted_joules(root) is None
