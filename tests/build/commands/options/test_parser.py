from pathlib import Path

import pytest

from build.commands.options.parser import command_parser

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --epochs 0", "argument --epochs: 0 is not a whole number of at least 1"),
        ("all --epochs -1", "argument --epochs: -1 is not a whole number of at least 0"),
        ("train --batch-size 0", "argument --batch-size: 0 is not a whole number of at least 1"),
        ("train --learning-rate nan", "argument --learning-rate: nan is not a number above 0"),
        ("train --label-weight -0.1", "argument --label-weight: -0.1 is not a number of at least 0"),
        ("train --seed x", "argument --seed: 'x' is not a whole number of at least 0"),
        ("quantize --size 16", "argument --size: 16 is not a whole number of at least 32"),
        ("report --runs 0", "argument --runs: 0 is not a whole number of at least 1"),
        ("sensitivity --images 1", "argument --images: 1 is not a whole number of at least 2"),
        ("activations --bits 9", "argument --bits: 9 is not a whole number from 2 to 8"),
        ("activations --large 1", "argument --large: 1 is not a number of at least 0 and below 1"),
        ("search --images 1", "argument --images: 1 is not a whole number of at least 2"),
        ("search --megabytes 0", "argument --megabytes: 0 is not a number above 0"),
        ("import --std 0", "argument --std: 0 is not a number above 0"),
        ("import --mean inf", "argument --mean: inf is not a number"),
        ("import --mean 1,2", "argument --mean: 1,2 is neither one number nor three, as in 1,2,3"),
        ("import --std 1,0,1", "argument --std: 0 is not a number above 0"),
        ("import --crop-fraction 1.5", "argument --crop-fraction: 1.5 is not a number above 0 and at most 1"),
        (
            "import Float=a.tflite",
            "argument MODEL.tflite: 'Float' can't be a variant's name: use lower-case letters",
        ),
        ("subset a --variants ,", "argument --variants: ',' names no variant"),
        ("bake", "argument command: invalid choice: 'bake'"),
    ],
)
def test_invalid_values_are_refused(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_parser().parse_args(command.split())
    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "command",
    [
        *("all", "train", "quantize", "add", "evaluate", "report", "subset", "sensitivity", "activations"),
        *("search", "import", "sign"),
    ],
)
def test_every_command_has_a_help_text(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_parser().parse_args([command, "--help"])
    assert caught.value.code == 0
    assert f"usage: python -m build {command}" in capsys.readouterr().out


def test_a_model_is_given_with_or_without_a_variant_name() -> None:
    command = "import fp32=models/a=b.tflite int8.tflite ./a=b.tflite --labels l --output logits --out o"
    assert command_parser().parse_args(command.split()).models == [
        ("fp32", Path("models/a=b.tflite")),
        (None, Path("int8.tflite")),
        (None, Path("./a=b.tflite")),
    ]


def test_blanks_around_the_names_of_variants_and_repeated_names_do_not_count() -> None:
    options = command_parser().parse_args(["subset", "a", "--variants", "fp32, qat ,,fp32", "--out", "b"])
    assert options.variants == ["fp32", "qat"]


def test_mean_and_std_take_one_value_or_three() -> None:
    command = "import --mean 123.675,116.28,103.53 --std 58 a.tflite --labels l --output logits --out o"
    options = command_parser().parse_args(command.split())
    assert (options.mean, options.std) == ((123.675, 116.28, 103.53), 58)
