from pathlib import Path

import numpy as np
import pytest

from build.assembly.golden_outputs import refuse_other_kind
from build.errors import BuildError
from service.bundle.folder import Bundle
from service.bundle.manifest import LABELS, OutputTensor
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from tests.build.assembly.conftest import imported
from tests.models import with_softmax


@pytest.mark.parametrize(
    ("file", "output", "message"),
    [
        ("softmax", "logits", r"^softmax gives probabilities: .* --output probabilities$"),
        ("float-softmax", "logits", r"^float-softmax gives probabilities: .* --output probabilities$"),
        ("ptq", "probabilities", r"^ptq gives values from -\d.*, which are not .* --output logits$"),
        ("fp32", "probabilities", r"^fp32 gives values from -\d.*, which are not .* --output logits$"),
    ],
)
def test_an_output_option_that_contradicts_the_values_is_refused(
    models: Path, tmp_path: Path, file: str, output: str, message: str
) -> None:
    (models / "float-softmax.tflite").write_bytes(with_softmax((models / "fp32.tflite").read_bytes()))
    scaling = {} if file in ("softmax", "ptq") else {"mean": 127.5, "std": 127.5}
    with pytest.raises(BuildError, match=message):
        imported(models / f"{file}.tflite", tmp_path / "bundle", output=output, **scaling)
    assert not (tmp_path / "bundle").exists()


def test_dynamic_range_probabilities_pass_the_self_test_on_each_delegate(
    default_bundle: Bundle, tmp_path: Path
) -> None:
    model = tmp_path / "softmax.tflite"
    model.write_bytes(with_softmax(default_bundle.variant_path("dynamic").read_bytes()))
    labels = default_bundle.path / LABELS
    bundle = imported(model, tmp_path / "bundle", labels=labels, output="probabilities")
    assert 0.1 < bundle.variant("softmax").golden.largest < 0.3
    for delegate in (Delegate.XNNPACK, Delegate.NONE):
        Classifier(bundle, "softmax", delegate)


def test_logits_of_zero_are_not_taken_for_probabilities() -> None:
    tensor = OutputTensor(dtype="float32", shape=(1, 1000), kind="logits")
    refuse_other_kind("zeros", np.zeros((3, 1000), np.float32), tensor)
