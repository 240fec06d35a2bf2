from pathlib import Path

import pytest

from tests.build.commands.refusals import refusal
from tests.build.conftest import flatten


def test_two_recipes_with_the_same_name_are_refused(
    arguments: dict[str, Path | str], capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal(capsys, "all", *flatten(arguments), "--recipes", "fp32", "fp32")
    assert error == "2 recipes are named fp32; give each its own name"


def test_a_recipe_for_another_network_is_refused_before_training(
    arguments: dict[str, Path | str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "other.toml"
    recipe.write_text(
        'name = "other"\nweights = "int8-per-channel"\nactivations = "int8"\nranges = "least-error"\n'
        'representative_images = 100\nfloat_blocks = ["block9a"]\n'
    )
    arguments["--calibration"] = tmp_path / "absent"
    error = refusal(capsys, "all", *flatten(arguments), "--recipes", recipe)
    assert error.startswith("float_blocks has block9a, but the network has block1a, ")


def test_a_recipe_that_leaves_nothing_to_prune_is_refused_before_training(
    arguments: dict[str, Path | str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "kept.toml"
    recipe.write_text(
        'name = "kept"\nweights = "int8-per-channel"\nactivations = "int8"\nrepresentative_images = 100\n'
        'weight_bits = { "block6*" = 4 }\npruning = { sparsity = 0.5, keep = ["block*"] }\n'
    )
    arguments["--calibration"] = tmp_path / "absent"
    error = refusal(capsys, "all", *flatten(arguments), "--recipes", recipe)
    assert error == "pruning: no layer is left to prune; give a grid to one that keep does not match"
