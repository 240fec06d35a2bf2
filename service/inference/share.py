"""How much of a graph a delegate took."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The runtime's name for a node that stands for a partition.
_PARTITION = "DELEGATE"


@dataclass(frozen=True)
class GraphShare:
    """A delegate's share of a graph: `taken` of its `operators`, in `partitions` pieces.

    `left` counts the others by kind. Each partition is a switch from the CPU to the delegate and back.
    """

    operators: int
    taken: int
    partitions: int
    left: Mapping[str, int]

    def __str__(self) -> str:
        partitions = f"{self.partitions} partition{'' if self.partitions == 1 else 's'}"
        text = f"{self.taken} of {self.operators} operators in {partitions}"
        left = ", ".join(f"{kind} {count}" for kind, count in self.left.items())
        return f"{text}; left: {left}" if self.taken and left else text


def partitions_of(nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the nodes that stand for partitions, given the runtime's details of all nodes."""
    return [node for node in nodes if node["op_name"] == _PARTITION]


def share_of(nodes: Sequence[Mapping[str, Any]], partitions: Sequence[Mapping[str, Any]]) -> GraphShare:
    """Return what `partitions` took of a graph, given the runtime's details of all nodes."""
    operators = [node for node in nodes if node["op_name"] != _PARTITION]
    taken = taken_by(nodes, partitions)
    left = Counter(node["op_name"] for node in operators if node["index"] not in taken)
    return GraphShare(len(operators), len(taken), len(partitions), dict(left.most_common()))


def taken_by(nodes: Sequence[Mapping[str, Any]], partitions: Sequence[Mapping[str, Any]]) -> set[int]:
    """Return the indices in the graph of the operators that `partitions` took.

    The runtime keeps the nodes that a partition replaced, without saying which they are: those
    between the partition's outputs and its inputs.
    """
    operators = [node for node in nodes if node["op_name"] != _PARTITION]
    producers = {int(tensor): node for node in operators for tensor in node["outputs"]}
    taken: set[int] = set()
    for partition in partitions:
        inputs = set(map(int, partition["inputs"]))
        tensors = list(map(int, partition["outputs"]))
        while tensors:
            tensor = tensors.pop()
            node = producers.get(tensor)
            if tensor in inputs or node is None or node["index"] in taken:
                continue
            taken.add(node["index"])
            tensors += map(int, node["inputs"])
    return taken
