from typing import Any

import pytest

from service.bundle.folder import Bundle
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from service.inference.share import GraphShare, partitions_of, share_of


def node(index: int, kind: str, inputs: list[int], outputs: list[int]) -> dict[str, Any]:
    return {"index": index, "op_name": kind, "inputs": inputs, "outputs": outputs}


def test_operators_between_a_partitions_inputs_and_outputs_are_taken() -> None:
    """Two branches that meet: 0 → A → 1, 1 → B → 2, 1 → C → 3, (2, 3) → D → 4, 4 → E → 5."""
    nodes = [
        node(0, "A", [0], [1]),
        node(1, "B", [1, 10], [2]),
        node(2, "C", [1], [3]),
        node(3, "D", [2, 3], [4]),
        node(4, "A", [4], [5]),
    ]
    partitions = [node(5, "DELEGATE", [1, 10], [2]), node(6, "DELEGATE", [2, 3], [5])]
    every = [*nodes, *partitions]
    assert partitions_of(every) == partitions
    assert share_of(every, partitions) == GraphShare(5, 3, 2, {"A": 1, "C": 1})
    assert share_of(every, partitions[:1]) == GraphShare(5, 1, 1, {"A": 2, "C": 1, "D": 1})
    assert share_of(nodes, []) == GraphShare(5, 0, 0, {"A": 2, "B": 1, "C": 1, "D": 1})


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (GraphShare(3, 3, 1, {}), "3 of 3 operators in 1 partition"),
        (GraphShare(4, 2, 2, {"A": 1, "B": 1}), "2 of 4 operators in 2 partitions; left: A 1, B 1"),
        (GraphShare(4, 0, 0, {"A": 4}), "0 of 4 operators in 0 partitions"),
    ],
)
def test_a_share_has_a_short_text(share: GraphShare, text: str) -> None:
    assert str(share) == text


@pytest.mark.parametrize(
    ("variant", "share"),
    [
        ("fp32", GraphShare(268, 268, 1, {})),
        ("fp16", GraphShare(454, 454, 1, {})),
        ("qat", GraphShare(267, 266, 1, {"QUANTIZE": 1})),
    ],
)
def test_xnnpack_takes_the_default_bundle(default_bundle: Bundle, variant: str, share: GraphShare) -> None:
    assert Classifier(default_bundle, variant).share == share
    without = Classifier(default_bundle, variant, Delegate.NONE).share
    assert (without.operators, without.taken, without.partitions) == (share.operators, 0, 0)
    assert sum(without.left.values()) == share.operators
