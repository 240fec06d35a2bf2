"""A real service with the sensors of boards: what a scrape shows, also when sensors fail."""

import os
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.bundle.folder import Bundle
from tests.sensors.boards import INA219, JETSON_ORIN_NANO, rapl, write_tree, zone
from tests.system.processes import Service, run, serving, wait_for

RANGE = 262143328850
SENSORS = ("edgewise_energy", "edgewise_temperature", "edgewise_cpu_frequency")


def scraped(service: Service) -> dict[tuple[str, str], float]:
    """Return the sensors' samples: each value by its metric and label value."""
    with service.client() as client:
        answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value  # type: ignore[misc]
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name.startswith(SENSORS)
    }


def joules(service: Service, domain: str) -> float | None:
    return scraped(service).get(("edgewise_energy_joules_total", domain))


def celsius(service: Service, zone: str) -> float | None:
    return scraped(service).get(("edgewise_temperature_celsius", zone))


def joules_after_a_reading(service: Service, root: Path, number: int) -> float:
    """Write a temperature, wait until a scrape shows it, and return the INA219's energy."""
    (root / "class/thermal/thermal_zone1/temp").write_text(f"{-number}000\n")
    wait_for(lambda: celsius(service, "gpu-thermal") == -number)
    return joules(service, "ina219") or 0.0


def test_a_scrape_follows_the_sensors(colours: Bundle, tmp_path: Path) -> None:
    root = write_tree(tmp_path, JETSON_ORIN_NANO, INA219, rapl("0", "package-0", RANGE - 5_000_000))
    counter = root / "class/powercap/intel-rapl:0/energy_uj"
    with serving(bundle=colours.path, sysfs_root=root) as service:
        line = service.line("sensors found")
        domains = ["package-0", "ina219", "VDD_IN", "VDD_IN/VDD_CPU_GPU_CV", "VDD_IN/VDD_SOC"]
        assert line["energy"] == domains
        assert line["temperature"] == ["cpu-thermal", "gpu-thermal", "tj-thermal"]
        assert line["cpu_frequency"] == ["0"]
        wait_for(lambda: joules(service, "package-0") == 0)
        assert celsius(service, "gpu-thermal") == 48.125
        assert scraped(service)["edgewise_cpu_frequency_hertz", "0"] == 1510400000
        assert scraped(service)["edgewise_cpu_frequency_limit_hertz", "0"] == 1510400000

        # The counter wraps around: five joules before, and three after.
        counter.write_text("3000000\n")
        wait_for(lambda: joules(service, "package-0") == 8)
        counter.write_text("4500000\n")
        wait_for(lambda: joules(service, "package-0") == 9.5)
        # Power adds up to energy, and no power adds none.
        wait_for(lambda: (joules(service, "ina219") or 0) > 3)
        (root / "class/hwmon/hwmon9/power1_input").write_text("0\n")
        _, before, after = (joules_after_a_reading(service, root, number) for number in range(3))
        assert before == after > 3


def test_failing_sensors_are_absent_and_break_nothing(colours: Bundle, tmp_path: Path) -> None:
    root = write_tree(
        tmp_path,
        *(zone(number, f"zone-{number}", "40000") for number in range(5)),
        rapl("0", "package-0", 1),
        rapl("1", "package-1", 1),
    )
    temps = [root / f"class/thermal/thermal_zone{number}/temp" for number in range(5)]
    counter = root / "class/powercap/intel-rapl:1/energy_uj"
    counter.unlink()
    counter.mkdir()
    with serving(bundle=colours.path, sysfs_root=root) as service:
        wait_for(lambda: celsius(service, "zone-0") == 40)
        assert len(scraped(service)) == 6
        assert joules(service, "package-1") is None
        temps[1].write_text("Resource temporarily unavailable\n")
        for temp in temps[2:]:
            temp.unlink()
        temps[3].mkdir()
        os.mkfifo(temps[4])
        temps[0].write_text("41000\n")
        left = {
            ("edgewise_energy_joules_total", "package-0"): 0,
            ("edgewise_temperature_celsius", "zone-0"): 41,
        }
        wait_for(lambda: scraped(service) == left)
        temps[2].write_text("45000\n")
        wait_for(lambda: celsius(service, "zone-2") == 45)


def test_without_sensors_there_is_no_sensor_metric_and_no_log_line(colours: Bundle, tmp_path: Path) -> None:
    with serving(bundle=colours.path, sysfs_root=tmp_path) as service:
        assert scraped(service) == {}
    assert [line["message"] for line in service.log if "sensors" in line["message"]] == []


@pytest.mark.parametrize("place", ["missing", "file"])
def test_a_sysfs_root_that_is_not_a_folder_stops_the_start_in_one_line(
    colours: Bundle, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").touch()
    result = run(bundle=colours.path, port=0, sysfs_root=tmp_path / place)
    assert result.returncode == 2
    assert result.stderr == (
        f"edgewise: EDGEWISE_SYSFS_ROOT is '{tmp_path / place}', but it should be a folder: /sys, or where"
        " that is mounted (see docs/settings.md)\n"
    )
