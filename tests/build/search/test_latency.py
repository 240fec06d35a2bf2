"""The search for blocks to compute in float, with the times of a profile."""

import json
import shutil
from collections.abc import Callable, Collection
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from build.__main__ import main
from build.errors import BuildError
from build.network.model import block_of
from build.network.weights import Network
from build.quantization.layer_names import layer_of
from build.quantization.recipe import load_recipe
from build.search.latency import BlockLosses, BlockTimes, next_block, read_times
from service.__main__ import main as service
from service.bundle.folder import Bundle
from tests.build.conftest import SIZE, make_keras_model

UNIT = 1e-4
# The times of operators in float, in units; each in int8 takes one unit.
USUAL, SLOW = 2, 1000
SLOW_BLOCK = "block6h"
BLOCKS = "1a 2a 2b 3a 3b 4a 4b 4c 5a 5b 5c 5d 5e 6a 6b 6c 6d 6e 6f 6g 6h"


@pytest.fixture(scope="module")
def profiled(small: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The profile that `service profile` writes of the small network."""
    file = tmp_path_factory.mktemp("profile") / "profile.json"
    options = ["--variants", "fp32,ptq", "--runs", "1", "--name", "a device"]
    assert service(["profile", "--bundle", str(small.path), *options, "--json", str(file)]) == 0
    profile: dict[str, Any] = json.loads(file.read_text())
    return profile


Write = Callable[[dict[str, Any]], Path]


@pytest.fixture(scope="module")
def soft(labels_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options for the small network with less confident answers, so that errors change the divergence."""
    model, weights = make_keras_model(), tmp_path_factory.mktemp("soft") / "soft.h5"
    head = model.get_layer("predictions")
    kernel, bias = head.get_weights()
    head.set_weights([kernel * 0.05, bias])
    model.save_weights(weights)
    return ["--weights", str(weights), "--labels", str(labels_file), "--size", str(SIZE)]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_profile(profile: dict[str, Any]) -> Path:
        file = tmp_path / "profile.json"
        file.write_text(json.dumps(profile))
        return file

    return write_profile


@pytest.fixture
def profile_file(profiled: dict[str, Any], write: Write) -> Path:
    """The file of a profile with made-up times."""
    return write(with_times(profiled))


def block_of_operator(operator: dict[str, Any]) -> str:
    return block_of(layer_of(operator["layer"].encode()))


def with_times(profile: dict[str, Any]) -> dict[str, Any]:
    """The profile with the times of a made-up device."""
    changed = deepcopy(profile)
    for name, variant in changed["variants"].items():
        for operator in variant["operators"]:
            if operator["p50_seconds"] is not None:
                in_float = SLOW if block_of_operator(operator) == SLOW_BLOCK else USUAL
                operator["p50_seconds"] = UNIT * (in_float if name == "fp32" else 1)
        total = sum(o["p50_seconds"] for o in variant["operators"] if o["p50_seconds"] is not None)
        # The whole graph takes half the time of its operators one by one.
        variant |= {"sum_seconds": total, "p50_seconds": total / 2, "sum_ratio": 2.0}
    return changed


def test_the_extra_time_of_a_block_is_scaled_to_that_of_the_graph(
    profiled: dict[str, Any], start: Network, profile_file: Path
) -> None:
    times = read_times(profile_file, start)
    whole, parts = with_times(profiled)["variants"]["ptq"], dict[str, int]()
    assert times.int8 == whole["p50_seconds"]
    for operator in whole["operators"]:
        if operator["p50_seconds"] is not None:
            parts[block_of_operator(operator)] = parts.get(block_of_operator(operator), 0) + 1
    assert list(times.extra) == [f"block{name}" for name in BLOCKS.split()]
    # A block has the same operators in float and in int8, except the conversions between the two.
    assert times.extra["block4a"] == pytest.approx(UNIT / 2 * (USUAL - 1) * parts["block4a"])
    assert times.extra[SLOW_BLOCK] == pytest.approx(UNIT / 2 * (SLOW - 1) * parts[SLOW_BLOCK])


def test_the_predicted_time_is_that_of_int8_plus_extra_times() -> None:
    times = BlockTimes(0.005, {"block1a": 0.001, "block2a": 0.002})
    assert times.predicted(["block1a", "block2a"]) == pytest.approx(0.008)
    assert times.predicted([]) == 0.005


class Measured(BlockLosses):
    """Made-up losses of three photos; each block in float lowers them by its `falls`."""

    def __init__(self, falls: dict[str, list[float]]) -> None:
        self.falls = falls

    def of(self, in_float: Collection[str]) -> NDArray[np.float64]:
        return np.array([1.0, 1.1, 1.2]) - sum((np.array(self.falls[b]) for b in in_float), np.zeros(3))


@pytest.mark.parametrize(
    ("chosen", "most", "expected"),
    [
        ([], 0.012, "block2a"),  # It lowers the loss less than 3a does, but more per second.
        (["block2a"], 0.0145, "block3a"),
        (["block2a"], 0.0135, None),  # 3a no longer fits, and 4a does not lower the loss significantly.
        (["block2a", "block3a"], 1.0, None),
    ],
)
def test_the_block_that_lowers_the_loss_most_for_its_time_is_next(
    chosen: list[str], most: float, expected: str | None
) -> None:
    falls = {
        "block2a": [0.10, 0.11, 0.12],
        "block3a": [0.20, 0.21, 0.22],
        "block4a": [0.30, -0.20, 0.10],
    }
    times = BlockTimes(0.01, {"block2a": 0.001, "block3a": 0.003, "block4a": 0.0001})
    assert next_block(Measured(falls), chosen, times, most) == expected


def test_a_search_writes_a_recipe_within_its_time(
    soft: list[str],
    start: Network,
    calibration: Path,
    profile_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe, times = tmp_path / "mixed.toml", read_times(profile_file, start)
    most = times.int8 + 2.5 * times.extra["block4a"]
    command = ["search", *soft, "--calibration", calibration, "--images", "16", "--out", recipe]
    budget = ["--milliseconds", 1e3 * most, "--profile", profile_file]
    assert main(list(map(str, [*command, *budget]))) == 0
    found = load_recipe(str(recipe))
    assert found.float_blocks
    assert SLOW_BLOCK not in found.float_blocks
    assert times.predicted(found.float_blocks) <= most
    assert f"{', '.join(found.float_blocks)} in float: " in capsys.readouterr().out
    expected = load_recipe("ptq").model_copy(
        update={"name": "mixed", "float_blocks": found.float_blocks, "searched_on": found.searched_on}
    )
    assert found == expected
    assert len(found.searched_on) == 48
    assert recipe.read_text().startswith("# python -m build search ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--milliseconds", "9"], "--milliseconds needs the --profile of a device"),
        (["--megabytes", "3", "--profile", "p.json"], "--profile needs --milliseconds"),
        (
            ["--milliseconds", "9", "--profile", "p", "--method", "greedy"],
            "--method needs --megabytes",
        ),
        (["--milliseconds", "9", "--profile", "p.json"], "p.json can't be read: No such file"),
    ],
)
def test_contradictory_options_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["search", "--calibration", str(tmp_path), *options, "--out", str(tmp_path / "mixed.toml")]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_time_limit_below_that_of_int8_is_refused(
    small: Bundle,
    calibration: Path,
    profile_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photos = ["--weights", str(small.path), "--calibration", str(calibration), "--images", "4"]
    budget = ["--milliseconds", "0.1", "--profile", str(profile_file)]
    assert main(["search", *photos, *budget, "--out", str(tmp_path / "mixed.toml")]) == 2
    assert "int8 alone already takes " in capsys.readouterr().err


def test_too_few_photos_to_measure_losses_on_are_refused(
    soft: list[str],
    start: Network,
    calibration: Path,
    profile_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    times = read_times(profile_file, start)
    budget = ["--milliseconds", 1e3 * (times.int8 + min(times.extra.values()) / 2), "--profile", profile_file]
    command = ["search", *soft, *budget, "--out", tmp_path / "mixed.toml", "--calibration"]
    assert main(list(map(str, [*command, calibration, "--images", "2"]))) == 2
    assert "lowers the loss significantly on 2 photos; allow more time, or" in capsys.readouterr().err

    photos = Path(shutil.copytree(calibration, tmp_path / "photos"))
    for photo in sorted(path for path in photos.rglob("*") if path.is_file())[3:]:
        photo.write_bytes(photo.read_bytes()[:200])
    assert main(list(map(str, [*command, photos, "--images", "2", "--skip-corrupt"]))) == 2
    assert "there is only 1 photo to measure losses on" in capsys.readouterr().err


def test_an_unsuitable_profile_is_refused(profiled: dict[str, Any], start: Network, write: Write) -> None:
    with pytest.raises(BuildError, match="is not a profile as `service profile --json` writes it: device"):
        read_times(write({key: value for key, value in profiled.items() if key != "device"}), start)
    alone = profiled | {"variants": {"ptq": profiled["variants"]["ptq"]}}
    with pytest.raises(BuildError, match="has no float32 variant; profile a float32 one and an int8 one"):
        read_times(write(alone), start)
    renamed = json.loads(json.dumps(profiled).replace("block6h", "block6z"))
    with pytest.raises(BuildError, match="is for another network or input size"):
        read_times(write(renamed), start)
    without = deepcopy(profiled)
    without["variants"]["ptq"]["operators"][0]["inputs"] = []
    with pytest.raises(BuildError, match="is for another network or input size"):
        read_times(write(without), start)
    larger = json.loads(json.dumps(profiled).replace("[1, 64, 64, 3]", "[1, 96, 96, 3]"))
    with pytest.raises(BuildError, match="is for another network or input size"):
        read_times(write(larger), start)
