import re
from enum import StrEnum
from pathlib import Path

import pytest

from build.errors import BuildError
from build.quantization.recipe import (
    RECIPES,
    ActivationType,
    Pruning,
    RangeRule,
    Recipe,
    WeightType,
    load_recipe,
)
from service.bundle.folder import load_bundle
from service.bundle.manifest import Precision
from service.settings import DEFAULT_BUNDLE

DOCUMENT = Path(__file__).parents[3] / "docs" / "recipes.md"

TRAINING = "[training]\nepochs = 1\nlearning_rate = 1e-5\n"
QAT = 'name = "a"\nweights = "int8-per-channel"\nactivations = "int8"\nrepresentative_images = 5\n' + TRAINING

PRUNING = '[weight_bits]\n"*" = 4\n[pruning]\nsparsity = 0.5\n'
INT4 = 'name = "a"\nweights = "int4-per-channel"\nactivations = "int8"\nrepresentative_images = 5\n'
FLOAT_BLOCK = 'float_blocks = ["block6h"]\n'
INT16 = 'name = "a"\nweights = "int8-per-channel"\nactivations = "int16"\nrepresentative_images = 5\n'


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.toml")), ids=lambda path: path.stem)
def test_a_built_in_recipe_is_valid_and_named_as_its_file(path: Path) -> None:
    assert load_recipe(str(path)).name == path.stem


def test_the_uniform_recipes_differ_from_ptq_in_the_bits_alone() -> None:
    ptq = load_recipe("ptq")
    for path in (RECIPES / "uniform").glob("*.toml"):
        recipe = load_recipe(str(path))
        bits = int(recipe.name.removeprefix("w"))
        assert recipe.weight_bits == {"*": bits}
        assert recipe.model_copy(update={"name": "ptq", "weight_bits": {}, "wire": None}) == ptq


def test_the_searched_recipes_differ_from_ptq_in_the_steps_alone() -> None:
    bundle = load_bundle(DEFAULT_BUNDLE)
    none = {"weight_steps": {}, "searched_on": frozenset(), "wire": None}
    for name in ("small", "tiny"):
        recipe = load_recipe(str(RECIPES / "searched" / f"{name}.toml"))
        assert len(recipe.weight_steps) == 92
        assert recipe.searched_on <= bundle.seen_images
        assert recipe.model_copy(update={"name": "ptq", **none}) == load_recipe("ptq")


def test_the_value_aware_recipes_differ_from_ptq_in_the_weights_alone() -> None:
    none = {"weight_bits": {}, "large_weights": None, "wire": None}
    for bits, share in ((4, 0.02), (3, 0.05)):
        recipe = load_recipe(str(RECIPES / "value-aware" / f"va{bits}.toml"))
        assert (recipe.weight_bits["*"], recipe.large_weights) == (bits, share)
        assert recipe.model_copy(update={"name": "ptq", **none}) == load_recipe("ptq")


def test_the_pruned_recipes_differ_in_the_teacher_and_use_searched_steps() -> None:
    recipes = {path.stem: load_recipe(str(path)) for path in (RECIPES / "pruned").glob("*.toml")}
    pqk, pruned, control = (recipes.pop(name) for name in ("pqk", "pruned", "coarser"))
    assert not recipes
    assert pqk.pruning is not None
    assert pqk.pruning.teacher
    without_teacher = pqk.pruning.model_copy(update={"teacher": False})
    assert pqk.model_copy(update={"name": "pruned", "pruning": without_teacher}) == pruned
    none = {"name": "ptq", "like": None, "pruning": None, "training": None, "wire": None}
    for recipe, searched in ((pruned, "small"), (control, "tiny")):
        steps = load_recipe(str(RECIPES / "searched" / f"{searched}.toml"))
        assert recipe.training == pqk.training
        expected = steps.model_copy(update=none)
        assert recipe.model_copy(update=none) == expected


@pytest.mark.parametrize(
    ("name", "precision", "ranges"),
    [
        ("fp32", Precision.FLOAT32, None),
        ("fp16", Precision.FLOAT16, None),
        ("dynamic", Precision.DYNAMIC, None),
        ("naive", Precision.INT8, RangeRule.CONVERTER),
        ("ptq", Precision.INT8, RangeRule.LEAST_ERROR),
    ],
)
def test_the_precision_and_ranges_of_each_recipe(
    name: str, precision: Precision, ranges: RangeRule | None
) -> None:
    recipe = load_recipe(name)
    assert (recipe.precision, recipe.ranges) == (precision, ranges)


@pytest.mark.parametrize(
    ("name", "precision", "ranges", "dynamic_range"),
    [
        ("int4-weights", Precision.INT4, None, False),
        ("int4-dynamic", Precision.INT4, None, True),
        ("int4", Precision.INT4, RangeRule.LEAST_ERROR, False),
        ("int16x8", Precision.INT16X8, RangeRule.CONVERTER, False),
    ],
)
def test_the_precision_and_ranges_of_each_native_recipe(
    name: str, precision: Precision, ranges: RangeRule | None, dynamic_range: bool
) -> None:
    recipe = load_recipe(str(RECIPES / "native" / f"{name}.toml"))
    assert (recipe.precision, recipe.ranges, recipe.dynamic_range) == (precision, ranges, dynamic_range)


def test_the_record_of_a_recipe_leaves_out_keys_that_are_not_set() -> None:
    assert load_recipe("ptq").settings()["ranges"] == "least-error"
    assert "ranges" not in load_recipe("fp16").settings()


def test_the_documents_have_every_key_and_value() -> None:
    table = DOCUMENT.read_text().partition("| key | values |\n")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))
    assert list(rows) == list(Recipe.model_fields)
    enums: dict[str, type[StrEnum]] = {
        "weights": WeightType,
        "activations": ActivationType,
        "ranges": RangeRule,
    }
    for key, values in enums.items():
        assert re.findall(r"(?:^|; )`([^`]+)`", rows[key]) == list(values), key


def test_the_documents_have_every_built_in_recipe() -> None:
    table = DOCUMENT.read_text().partition("| recipe | weights |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {
        path.stem for path in RECIPES.glob("*.toml")
    }


def test_the_example_of_the_documents_is_valid(tmp_path: Path) -> None:
    example, training, bits, large, steps, blocks, pruning = re.findall(
        r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL
    )
    path = tmp_path / "mine.toml"
    path.write_text(example)
    assert load_recipe(str(path)).name == "mine"
    path.write_text(example + training)
    trained = load_recipe(str(path)).training
    assert trained is not None
    assert trained.epochs == 4
    path.write_text(example + steps)
    assert list(load_recipe(str(path)).weight_steps.items())[-1] == ("*", 0.03)
    path.write_text(example + steps + training + pruning)
    pruned = load_recipe(str(path)).pruning
    assert pruned == Pruning(sparsity=0.6, ramp=0.5)
    path.write_text(blocks + example)
    assert load_recipe(str(path)).float_blocks == ("block4a", "block6h")
    path.write_text(example + bits)
    assert list(load_recipe(str(path)).weight_bits.items())[-1] == ("*", 5)
    path.write_text(example + large)
    assert load_recipe(str(path)).large_weights == 0.05


def test_qat_trains_from_the_ranges_of_ptq() -> None:
    qat, ptq = load_recipe("qat"), load_recipe("ptq")
    assert qat.model_copy(update={"name": "ptq", "training": None}) == ptq
    assert qat.training is not None
    assert qat.training.batch_size == 16


def test_settings_have_every_key_that_is_set() -> None:
    assert load_recipe("fp32").settings() == {
        "name": "fp32",
        "weights": "float32",
        "activations": "float32",
        "representative_images": 0,
    }
    qat = load_recipe("qat")
    assert qat.training is not None
    assert qat.settings() == {
        "name": "qat",
        "weights": "int8-per-channel",
        "activations": "int8",
        "representative_images": 500,
        "ranges": "least-error",
        "training.epochs": qat.training.epochs,
        "training.learning_rate": qat.training.learning_rate,
        "training.batch_size": 16,
        "training.range_rate": 100,
    }


def test_settings_have_the_pruning_in_plain_values() -> None:
    pruning = Pruning(sparsity=0.5, keep=("stem_conv", "*_dwconv2"))
    recipe = load_recipe("ptq").model_copy(update={"pruning": pruning})
    expected = {"pruning.sparsity": 0.5, "pruning.keep": "stem_conv *_dwconv2"}
    assert recipe.settings() == load_recipe("ptq").settings() | expected
    with_teacher = pruning.model_copy(update={"ramp": 0.25, "teacher": True})
    recipe = recipe.model_copy(update={"pruning": with_teacher})
    expected |= {"pruning.ramp": 0.25, "pruning.teacher": True}
    assert recipe.settings() == load_recipe("ptq").settings() | expected


def test_settings_have_the_bits_of_each_pattern_in_their_order() -> None:
    recipe = load_recipe("ptq").model_copy(update={"weight_bits": {"stem_conv": 8, "*": 4}})
    assert list(recipe.settings().items())[-2:] == [("weight_bits.stem_conv", 8), ("weight_bits.*", 4)]
    large = recipe.model_copy(update={"large_weights": 0.02})
    assert large.settings() == recipe.settings() | {"large_weights": 0.02}


def test_settings_include_the_wire_format(tmp_path: Path) -> None:
    path = tmp_path / "fp32.toml"
    path.write_text((RECIPES / "fp32.toml").read_text() + 'wire = "zstd"\n')
    assert load_recipe(str(path)).settings() == load_recipe("fp32").settings() | {"wire": "zstd"}


def test_a_recipe_of_ones_own_is_given_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((RECIPES / "ptq.toml").read_text().replace('"ptq"', '"mine"'))
    assert load_recipe(str(path)).name == "mine"


def test_a_recipe_like_another_replaces_only_the_keys_it_has_itself(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(QAT.replace("[training]", 'wire = "zstd"\n[training]'))
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "mine.toml"
    path.write_text('name = "mine"\nlike = "../base.toml"\n[training]\nepochs = 3\nlearning_rate = 1e-3\n')
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.wire, recipe.representative_images) == ("mine", "zstd", 5)
    assert recipe.training is not None
    assert (recipe.training.epochs, recipe.training.learning_rate) == (3, 1e-3)
    assert "like" not in recipe.settings()
    (tmp_path / "base.toml").unlink()
    with pytest.raises(BuildError, match=r"base\.toml can't be read"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope", "there is no recipe 'nope'; name one of dynamic, fp16, fp32, naive, ptq, qat, or the path"),
        ("none.toml", "there is no recipe"),
    ],
)
def test_an_unknown_recipe_is_refused(name: str, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        load_recipe(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "can't be read"),
        ((RECIPES / "ptq.toml").read_text() + '[weight_bits]\n"*" = 1', "weight_bits.*: Input should be"),
        ((RECIPES / "fp32.toml").read_text() + '[weight_bits]\n"*" = 4', "need least-error ranges"),
        ((RECIPES / "naive.toml").read_text() + '[weight_bits]\n"*" = 4', "need least-error ranges"),
        ((RECIPES / "ptq.toml").read_text() + '[weight_steps]\n"*" = 0', "weight_steps.*: Input should be"),
        ((RECIPES / "naive.toml").read_text() + '[weight_steps]\n"*" = 0.1', "need least-error ranges"),
        (
            (RECIPES / "ptq.toml").read_text() + '[weight_bits]\n"*" = 4\n[weight_steps]\n"*" = 0.1',
            "weights can have weight_bits or weight_steps, not both",
        ),
        ((RECIPES / "ptq.toml").read_text() + "large_weights = 0.02", "levels of weight_bits; set"),
        (
            (RECIPES / "ptq.toml").read_text() + 'large_weights = 0.02\n[weight_bits]\n"*" = 8',
            "large_weights need layers with fewer than 8 bits, but weight_bits has none",
        ),
        ((RECIPES / "ptq.toml").read_text().replace('"ptq"', '"fp32"'), "fp32 must be float32, since all"),
        (
            (RECIPES / "ptq.toml").read_text() + 'large_weights = 0.02\n[weight_steps]\n"*" = 0.1',
            "large_weights lie beyond the levels of weight_bits",
        ),
        (
            (RECIPES / "ptq.toml").read_text() + 'large_weights = 1\n[weight_bits]\n"*" = 4',
            "large_weights: Input should be less than 1",
        ),
        (
            INT4 + 'large_weights = 0.02\n[weight_bits]\n"*" = 8',
            "large_weights need int8-per-channel weights: int4 has no levels for them",
        ),
        ('name = "a"\nweights = "int3"\nactivations = "int8"', "weights: Input should be"),
        ('name = "a"\nweights = "float32"\nactivations = "float32"\nbits = 8', "bits: Extra inputs"),
        ('name = "images"\nweights = "float32"\nactivations = "float32"', "a variant can't be named images"),
        ('name = "auto"\nweights = "float32"\nactivations = "float32"', "a variant can't be named auto"),
        ('name = "A b"\nweights = "float32"\nactivations = "float32"', "name: String should match"),
        (
            'name = "a"\nweights = "float32"\nactivations = "int8"',
            "int8 activations need int8-per-channel or int4-per-channel weights, not float32",
        ),
        (
            'name = "a"\nweights = "float16"\nactivations = "int8"',
            "int8 activations need int8-per-channel or int4-per-channel weights, not float16",
        ),
        ('name = "a"\nweights = "int8-per-channel"\nactivations = "int8"', "must be above 0"),
        (
            'name = "a"\nweights = "float32"\nactivations = "float32"\nrepresentative_images = 5',
            "leave them out",
        ),
        (
            'name = "a"\nweights = "int8-per-channel"\nactivations = "float32"\nrepresentative_images = 5',
            "leave them out",
        ),
        (
            'name = "a"\nweights = "float16"\nactivations = "float32"\nranges = "least-error"',
            "ranges are for integer activations only; leave them out",
        ),
        (
            'name = "a"\nweights = "int8-per-channel"\nactivations = "int8"\nranges = "largest"',
            "ranges: Input should be 'least-error' or 'converter'",
        ),
        (INT16 + 'ranges = "least-error"', "int16 activations need the converter's ranges"),
        (INT16.replace("int8-per", "int4-per"), "int16 activations need int8-per-channel weights, not int4"),
        (INT16 + '[weight_bits]\n"*" = 4', "need least-error ranges"),
        (INT16 + TRAINING, "starts from least-error"),
        (INT16 + "weight_only = true", "weight_only needs int4-per-channel weights and float32 activations"),
        (INT4 + "weight_only = true", "weight_only needs int4-per-channel weights and float32 activations"),
        (INT4 + 'ranges = "converter"', "with int4-per-channel weights need least-error ranges"),
        (INT4 + '[weight_bits]\n"*" = 6', "only name layers that keep 8 bits"),
        (QAT + "[pruning]\nsparsity = 0.5", "pruning needs int8-per-channel weights with weight_bits or"),
        (INT4 + PRUNING.replace("4", "8"), "pruning needs int8-per-channel weights with weight_bits or"),
        (QAT + PRUNING.replace("0.5", "1.0"), "pruning.sparsity: Input should be less than 1"),
        (QAT + PRUNING + "ramp = 0", "pruning.ramp: Input should be greater than 0"),
        ((RECIPES / "ptq.toml").read_text() + PRUNING + "ramp = 0.5", "are for recipes that train"),
        ((RECIPES / "ptq.toml").read_text() + PRUNING + "teacher = true", "are for recipes that train"),
        (INT4 + TRAINING, "training needs int8-per-channel weights"),
        (FLOAT_BLOCK + INT4, "float_blocks need int8-per-channel weights and least-error ranges"),
        (FLOAT_BLOCK + INT16, "float_blocks need int8-per-channel weights and least-error ranges"),
        (FLOAT_BLOCK + QAT, "float_blocks can't be trained or pruned; leave out one or the other"),
        (FLOAT_BLOCK.replace("block6h", "stem") + INT16, "float_blocks.0: String should match pattern"),
        (
            'float_blocks = ["block6h", "block6h"]\n' + INT16.replace("int16", "int8"),
            "float_blocks names a block more than once",
        ),
        (QAT.replace("epochs = 1", ""), "training.epochs: Field required"),
        (QAT.replace("epochs = 1", "epochs = 0"), "training.epochs: Input should be greater than 0"),
        (QAT.replace("1e-5", "inf"), "training.learning_rate: Input should be a finite number"),
        (QAT + "warmth = 3", "training.warmth: Extra inputs"),
        (
            QAT.replace("[training]", 'ranges = "converter"\n[training]'),
            "training starts from least-error",
        ),
        (
            'name = "a"\nweights = "float16"\nactivations = "float32"\n' + TRAINING,
            "starts from least-error",
        ),
    ],
)
def test_an_invalid_recipe_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(BuildError, match=message) as caught:
        load_recipe(str(path))
    assert "\n" not in str(caught.value)


def test_a_recipe_can_be_like_one_that_is_like_another(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('wire = "zstd"\n' + QAT)
    (tmp_path / "b.toml").write_text('name = "b"\nlike = "c.toml"\n[weight_bits]\n"*" = 4\n')
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nlike = "b.toml"\n')
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.weight_bits, recipe.wire) == ("mine", {"*": 4}, "zstd")
    path.write_text('like = "b.toml"\n')
    with pytest.raises(BuildError, match="name: Field required"):
        load_recipe(str(path))


def test_a_recipe_that_is_like_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('name = "a"\nlike = "b.toml"\n')
    (tmp_path / "b.toml").write_text('name = "b"\nlike = "a.toml"\n')
    with pytest.raises(BuildError, match=r"a\.toml is like itself, through .*b\.toml"):
        load_recipe(str(tmp_path / "a.toml"))
