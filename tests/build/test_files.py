from pathlib import Path

import pytest

from build.files import command_line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("train", "--data", "/home/me/photos/", "--epochs", "3"), "train --data photos --epochs 3"),
        (("import", "int8=models/a.tflite", "--mean", "0.4,0.5"), "import int8=a.tflite --mean 0.4,0.5"),
        (("train", "--data=/home/me/a=b/c", "--run", "~me/runs"), "train --data=c --run runs"),
        (("train", "--out", "new/deep/mine"), "train --out new/deep/mine"),
        (("sign", "models/deep/mine", "--key", "../secret/key.pem"), "sign mine --key key.pem"),
        (("train", "--data=../my photos"), "train '--data=my photos'"),
        (("quantize", "--out", ".", "--run", ""), "quantize --out . --run ''"),
        (("import", "--licence", "CC BY 4.0 / MIT"), "import --licence 'CC BY 4.0 / MIT'"),
        (("train", "--data", "/home/\udcff"), "train --data '\ufffd'"),
    ],
)
def test_a_recorded_command_names_files_without_their_paths(
    arguments: tuple[str, ...], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    assert command_line(arguments) == f"python -m build {line}"
