import pytest

from service.host.cpu import board, features, processors
from tests import cpuinfos

_A76 = ["asimd", "asimddp", "asimdhp", "fphp"]


@pytest.mark.parametrize(
    ("cpuinfo", "kinds", "found", "name"),
    [
        (cpuinfos.RASPBERRY_PI_4, {"Cortex-A72": 4}, ["asimd"], "Raspberry Pi 4 Model B Rev 1.4"),
        (cpuinfos.RASPBERRY_PI_5, {"Cortex-A76": 4}, _A76, "Raspberry Pi 5 Model B Rev 1.0"),
        (cpuinfos.JETSON_NANO, {"Cortex-A57": 4}, ["asimd"], ""),
        (cpuinfos.JETSON_ORIN_NANO, {"Cortex-A78AE": 6}, _A76, ""),
        (cpuinfos.ROCK_5B, {"Cortex-A55": 4, "Cortex-A76": 4}, _A76, ""),
        (
            cpuinfos.INTEL_NUC,
            {"Intel(R) Core(TM) i7-8559U CPU @ 2.70GHz": 8},
            ["avx", "avx2", "f16c", "fma", "sse4_1", "sse4_2"],
            "",
        ),
    ],
)
def test_processors_features_and_board_are_read_from_cpuinfo(
    cpuinfo: str, kinds: dict[str, int], found: list[str], name: str
) -> None:
    assert processors(cpuinfo) == kinds
    assert features(cpuinfo) == found
    assert board(cpuinfo) == name


def test_features_are_those_that_all_processors_have() -> None:
    little = "processor\t: 0\nFeatures\t: fp asimd\n\n"
    big = "processor\t: 1\nFeatures\t: fp asimd asimddp i8mm\n\n"
    assert features(little + big) == ["asimd"]
    assert features(big) == ["asimd", "asimddp", "i8mm"]


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        (("0x41", "0xdff"), "implementer 0x41, part 0xdff"),
        (("0x99", "0xd08"), "implementer 0x99, part 0xd08"),
        (("what", "0xd08"), "implementer what, part 0xd08"),
    ],
)
def test_an_unknown_processor_is_named_by_its_numbers(numbers: tuple[str, str], name: str) -> None:
    implementer, part = numbers
    cpuinfo = f"processor\t: 0\nCPU implementer\t: {implementer}\nCPU part\t: {part}\n"
    assert processors(cpuinfo) == {name: 1}


@pytest.mark.parametrize(
    "cpuinfo", ["", "\n\n\n", "no colon", "model name : without a number\n", "processor: 0"]
)
def test_incomplete_cpuinfo_gives_nothing(cpuinfo: str) -> None:
    assert processors(cpuinfo) == {}
    assert features(cpuinfo) == []
    assert board(cpuinfo) == ""
