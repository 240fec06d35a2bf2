"""Files that real boards have under /sys: paths and contents; `-> path` is a link.

Only files that matter here, laid out as by the kernel: classes are folders of links to devices.
The documents named here are the kernel's.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Tree = dict[str, str]

# Every board has it; it must not appear in any output.
SERIAL = "10000000c0ffee42"


def write_tree(root: Path, *trees: Tree) -> Path:
    """Write these files and links under `root`; existing files are overwritten."""
    for tree in trees:
        for name, content in tree.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content.startswith("-> "):
                path.symlink_to(content.removeprefix("-> "))
            else:
                path.write_text(content + "\n")
    return root


def zone(number: int, type_: str, temp: str) -> Tree:
    """A thermal zone (Documentation/driver-api/thermal/sysfs-api.rst)."""
    return {
        f"class/thermal/thermal_zone{number}": f"-> ../../devices/virtual/thermal/thermal_zone{number}",
        f"devices/virtual/thermal/thermal_zone{number}/type": type_,
        f"devices/virtual/thermal/thermal_zone{number}/temp": temp,
    }


def chip(number: int, device: str, name: str, **files: str) -> Tree:
    """A chip of hwmon (Documentation/hwmon/sysfs-interface.rst) of a device under /sys/devices."""
    folder = f"devices/{device}/hwmon/hwmon{number}"
    return {
        f"class/hwmon/hwmon{number}": f"-> ../../{folder}",
        f"{folder}/device": f"-> ../../../{Path(device).name}",
        f"{folder}/name": name,
        **{f"{folder}/{file}": content for file, content in files.items()},
    }


def cpu(number: int, now: int, most: int, **files: str) -> Tree:
    """A CPU's frequencies in kHz (Documentation/admin-guide/pm/cpufreq.rst)."""
    policy = f"devices/system/cpu/cpufreq/policy{number}"
    return {
        f"devices/system/cpu/cpu{number}/cpufreq": f"-> ../cpufreq/policy{number}",
        f"{policy}/scaling_cur_freq": str(now),
        f"{policy}/scaling_max_freq": str(most),
        f"{policy}/cpuinfo_max_freq": str(most),
        **{f"{policy}/{file}": content for file, content in files.items()},
    }


def rapl(zone: str, name: str, microjoules: int, kind: str = "intel-rapl", most: int = 262143328850) -> Tree:
    """A zone of powercap (Documentation/power/powercap/powercap.rst)."""
    parents = "/".join(f"{kind}:{zone[:end]}" for end in (1, 3) if end <= len(zone))
    folder = f"devices/virtual/powercap/{kind}/{parents}"
    return {
        f"class/powercap/{kind}:{zone}": f"-> ../../{folder}",
        f"{folder}/name": name,
        f"{folder}/energy_uj": str(microjoules),
        f"{folder}/max_energy_range_uj": str(most),
    }


def rails(number: int, device: str, *channels: tuple[str, int, int]) -> Tree:
    """An INA3221 (Documentation/hwmon/ina3221.rst): label, mV and mA of each channel."""
    files = {}
    for channel, (label, millivolts, milliamperes) in enumerate(channels, 1):
        files[f"in{channel}_label"] = label
        files[f"in{channel}_input"] = str(millivolts)
        files[f"curr{channel}_input"] = str(milliamperes)
        files[f"in{channel + 3}_input"] = "1240"  # The voltage over the shunt, in µV.
    files |= {"in7_label": "sum of shunt voltages", "in7_input": "2480", "curr4_input": "4000"}
    return chip(number, device, "ina3221", **files)


def device_tree(model: str) -> Tree:
    """The name of a board in its device tree, whose strings end with a zero byte."""
    return {"firmware/devicetree/base/model": f"{model}\0", "firmware/devicetree/base/serial-number": SERIAL}


def dmi(vendor: str, product: str, board: str) -> Tree:
    """The name of a machine in its BIOS (Documentation/ABI/testing/sysfs-class-dmi)."""
    folder = "devices/virtual/dmi/id"
    return {
        "class/dmi/id": f"-> ../../{folder}",
        f"{folder}/sys_vendor": vendor,
        f"{folder}/product_name": product,
        f"{folder}/board_name": board,
        f"{folder}/product_serial": SERIAL,
        f"{folder}/board_serial": SERIAL,
    }


@contextmanager
def counting(file: Path, watts: int) -> Iterator[None]:
    """Increase a counter of microjoules with time."""
    stopped = threading.Event()

    def count() -> None:
        while not stopped.wait(0.001):
            # Replaced whole: a file that is rewritten in place is empty for a moment.
            following = file.with_suffix(".next")
            following.write_text(f"{watts * time.monotonic_ns() // 1000}\n")
            following.replace(file)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


# One zone, which is a chip too; throttling by the firmware is not shown here (raspberrypi/linux#2986).
# sensors(1) shows `cpu_thermal-virtual-0` and `rpi_volt-isa-0000`, whose in0 has no value.
RASPBERRY_PI_4: Tree = {
    **device_tree("Raspberry Pi 4 Model B Rev 1.4"),
    **zone(0, "cpu-thermal", "56478"),
    **chip(0, "virtual/thermal/thermal_zone0", "cpu_thermal", temp1_input="56478"),
    **chip(1, "platform/soc/soc:firmware/raspberrypi-hwmon", "rpi_volt", in0_lcrit_alarm="0"),
    **{
        path: content
        for number in range(4)
        for path, content in cpu(number, 1500000, 1800000, scaling_governor="ondemand").items()
    },
}

# Its power chip is not in hwmon (`vcgencmd pmic_read_adc` asks the firmware); the I/O chip's converter is.
# `grep . /sys/class/hwmon/*/name` shows cpu_thermal, pwmfan, rp1_adc, rpi_volt.
RASPBERRY_PI_5: Tree = {
    **device_tree("Raspberry Pi 5 Model B Rev 1.0"),
    **zone(0, "cpu-thermal", "53700"),
    **chip(0, "virtual/thermal/thermal_zone0", "cpu_thermal", temp1_input="53700"),
    **chip(1, "platform/cooling_fan", "pwmfan", fan1_input="3054", pwm1="125"),
    **chip(
        2,
        "platform/axi/1000120000.pcie/1f000c8000.adc",
        "rp1_adc",
        temp1_input="55472",
        in1_input="1468",
        in2_input="2523",
    ),
    **chip(3, "platform/soc/soc:firmware/raspberrypi-hwmon", "rpi_volt", in0_lcrit_alarm="0"),
    **cpu(0, 1500000, 2400000, scaling_governor="ondemand"),
}

# An INA219 on the supply, as power HATs have it (Documentation/hwmon/ina2xx.rst): power is in µW.
INA219: Tree = chip(
    9,
    "platform/soc/fe804000.i2c/i2c-1/1-0043",
    "ina219",
    in0_input="6",
    in1_input="5048",
    curr1_input="612",
    power1_input="3090000",
)

# Jetson Nano under Jetson Linux 32: NVIDIA's own driver ina3221x, in iio; milliwatts.
# Its zones: AO-therm, CPU-therm, GPU-therm, PLL-therm, PMIC-Die, thermal-fan-est.
JETSON_NANO: Tree = {
    **device_tree("NVIDIA Jetson Nano Developer Kit"),
    "bus/i2c/drivers/ina3221x/6-0040": "-> ../../../../devices/7000c400.i2c/i2c-6/6-0040",
    **{
        f"devices/7000c400.i2c/i2c-6/6-0040/iio:device0/{name}": content
        for name, content in {
            "name": "ina3221x",
            "rail_name_0": "POM_5V_IN",
            "rail_name_1": "POM_5V_GPU",
            "rail_name_2": "POM_5V_CPU",
            "in_power0_input": "2471",
            "in_power1_input": "123",
            "in_power2_input": "535",
        }.items()
    },
    **zone(0, "AO-therm", "38500"),
    **zone(1, "CPU-therm", "30500"),
    **zone(4, "PMIC-Die", "100000"),
    **cpu(0, 1479000, 1479000),
}

# Jetson Orin Nano under Jetson Linux 36: the kernel's driver; a zone without power does not answer.
JETSON_ORIN_NANO: Tree = {
    **device_tree("NVIDIA Jetson Orin Nano Developer Kit"),
    **rails(
        1,
        "platform/c240000.i2c/i2c-1/1-0040",
        ("VDD_IN", 5056, 1008),
        ("VDD_CPU_GPU_CV", 5056, 200),
        ("VDD_SOC", 5048, 296),
    ),
    **zone(0, "cpu-thermal", "47593"),
    **zone(1, "gpu-thermal", "48125"),
    **zone(8, "tj-thermal", "48125"),
    **cpu(0, 1510400, 1510400, scaling_governor="schedutil"),
}

# AGX Orin has two INA3221, no rail for the whole supply, and unconnected channels.
JETSON_AGX_ORIN: Tree = {
    **rails(
        3,
        "platform/c240000.i2c/i2c-1/1-0040",
        ("VDD_GPU_SOC", 12144, 260),
        ("VDD_CPU_CV", 12136, 98),
        ("VIN_SYS_5V0", 4968, 953),
    ),
    **rails(
        4,
        "platform/c240000.i2c/i2c-1/1-0041",
        ("NC", 0, 0),
        ("VDDQ_VDD2_1V8AO", 4968, 80),
        ("NC", 0, 0),
    ),
}

# A NUC: a package with its parts, the platform, the package again by MMIO, and two zones of one name.
INTEL_NUC: Tree = {
    **dmi("Intel(R) Client Systems", "NUC8i7BEH", "NUC8BEB"),
    "class/powercap/intel-rapl/enabled": "1",
    **rapl("0", "package-0", 124599532281),
    **rapl("0:0", "core", 23893449269),
    **rapl("0:1", "uncore", 1166450),
    **rapl("0:2", "dram", 8893449269, most=65712999613),
    **rapl("1", "psys", 224599532281),
    **rapl("0", "package-0", 124599532281, kind="intel-rapl-mmio"),
    **zone(0, "acpitz", "-263150"),
    **zone(1, "acpitz", "27800"),
    **zone(2, "x86_pkg_temp", "41000"),
    **chip(0, "virtual/thermal/thermal_zone1", "acpitz", temp1_input="27800"),
    **chip(
        1,
        "platform/coretemp.0",
        "coretemp",
        temp1_label="Package id 0",
        temp1_input="41000",
        temp2_label="Core 0",
        temp2_input="40000",
    ),
    **chip(
        2,
        "pci0000:00/0000:00:1d.0/0000:3a:00.0/nvme/nvme0",
        "nvme",
        temp1_label="Composite",
        temp1_input="32850",
    ),
    **cpu(0, 3600000, 4500000, scaling_governor="powersave"),
}

# Coral Dev Board (i.MX 8M): no power sensor; the Edge TPU's driver has its temperature
# (coral.ai/docs/pcie-parameters).
CORAL_DEV_BOARD: Tree = {
    **zone(0, "cpu-thermal", "52000"),
    "class/apex/apex_0": "-> ../../devices/platform/33800000.pcie/apex/apex_0",
    "devices/platform/33800000.pcie/apex/apex_0/temp": "54550",
    **cpu(0, 1000000, 1500000),
}
