import time
from pathlib import Path

import pytest

from service.sensors.watching import Readings, watched_sensors
from tests.sensors import boards
from tests.sensors.boards import INA219, Tree, cpu, rapl, write_tree
from tests.system.processes import wait_for


def until_read(readings: Readings) -> None:
    """Wait until the clocks were read once."""
    wait_for(lambda: bool(readings.clock_shares))


def test_counters_give_the_joules_spent_meanwhile(tmp_path: Path) -> None:
    root = write_tree(tmp_path, boards.INTEL_NUC)
    with watched_sensors(root, cpus=1) as readings:
        for zone, microjoules in (("0", 124602532281), ("0:0", 23999999999), ("1", 324599532281)):
            following = root / "next"
            following.write_text(f"{microjoules}\n")
            # Replaced whole: a file that is rewritten in place is empty for a moment.
            following.replace(root / f"class/powercap/intel-rapl:{zone}/energy_uj")
        until_read(readings)
    # Only the package counts, not again its cores, nor the platform around it.
    assert readings.joules == pytest.approx(3)
    assert set(readings.clock_shares) == {0.8}


def test_power_is_integrated_over_time(tmp_path: Path) -> None:
    root = write_tree(tmp_path, boards.RASPBERRY_PI_4, INA219)
    start = time.monotonic()
    with watched_sensors(root, cpus=4) as readings:
        inner = time.monotonic()
        until_read(readings)
        inner = time.monotonic() - inner
    outer = time.monotonic() - start
    assert readings.joules is not None
    assert 3.09 * inner <= readings.joules <= 3.09 * outer
    assert readings.clock_shares[0] == pytest.approx(1500 / 1800)


def test_the_clock_share_is_that_of_the_busiest_cpus(tmp_path: Path) -> None:
    root = write_tree(tmp_path, cpu(0, 1000, 2000), cpu(1, 1800, 2000), cpu(2, 2000, 2000), cpu(3, 600, 2000))
    with watched_sensors(root, cpus=2) as readings:
        until_read(readings)
    assert readings.clock_shares[0] == pytest.approx(0.95)


@pytest.mark.parametrize("tree", [{"version": ""}, boards.CORAL_DEV_BOARD])
def test_boards_without_a_sensor_give_no_joules(tree: Tree, tmp_path: Path) -> None:
    with watched_sensors(write_tree(tmp_path, tree), cpus=1) as readings:
        pass
    assert readings.joules is None


def test_a_sensor_that_fails_meanwhile_gives_no_joules(tmp_path: Path) -> None:
    root = write_tree(tmp_path, rapl("0", "package-0", 0), cpu(0, 1000, 2000))
    with watched_sensors(root, cpus=1) as readings:
        (root / "class/powercap/intel-rapl:0/energy_uj").write_text("nothing\n")
        until_read(readings)
    assert readings.joules is None
    (root / "devices/system/cpu/cpufreq/policy0/scaling_cur_freq").unlink()
    (root / "devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq").write_text("0\n")
    with watched_sensors(root, cpus=1) as readings:
        time.sleep(0.15)
    assert readings.clock_shares == []


def test_an_error_of_the_watched_work_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="out of it"), watched_sensors(tmp_path, cpus=1):
        raise ValueError("out of it")
