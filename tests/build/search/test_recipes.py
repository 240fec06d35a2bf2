from pathlib import Path

import pytest

from build.errors import BuildError
from build.quantization.recipe import load_recipe
from build.search.recipes import new_recipe, recipe_text
from service.bundle.folder import SEEN_DIGITS

SEEN = frozenset(["0123456789abcdef"[:SEEN_DIGITS], "f" * SEEN_DIGITS])


def test_a_written_recipe_with_steps_is_read_back_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "tiny-1.toml"
    found = new_recipe(path).model_copy(
        update={"weight_steps": {"stem_conv": 0.25, "predictions": 1.5e-5}, "searched_on": SEEN}
    )
    path.write_text(recipe_text(found, "python -m build search"))
    assert path.read_text().startswith('# python -m build search\nname = "tiny-1"\n')
    assert load_recipe(str(path)) == found


def test_a_new_recipe_is_packed_int8(tmp_path: Path) -> None:
    expected = load_recipe("ptq").model_copy(update={"name": "tiny", "wire": "zstd"})
    assert new_recipe(tmp_path / "tiny.toml") == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("small.json", "a recipe is a .toml file, but .*small.json is not"),
        ("there.toml", "there.toml already exists; remove it, or name another file"),
        ("nowhere/mine.toml", "nowhere/mine.toml can't be written: .*nowhere is not a writable folder"),
        ("there.toml/mine.toml", "mine.toml can't be written: .*there.toml is not a writable folder"),
        ("A b.toml", "A b.toml: name: String should match"),
        ("images.toml", "images.toml: .*a variant can't be named images"),
    ],
)
def test_an_unsuitable_file_for_a_new_recipe_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "there.toml").touch()
    with pytest.raises(BuildError, match=message):
        new_recipe(tmp_path / name)
