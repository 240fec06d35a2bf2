"""How much of a graph a delegate took."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What the runtime names the node that stands for a partition.
_PARTITION = "DELEGATE"


@dataclass(frozen=True)
class GraphShare:
    """`taken` of a graph's `operators`, in so many `partitions`; `left`: the others, by kind.

    Each partition is a change from the CPU to the delegate and back.
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
    """The nodes that stand for partitions, among the runtime's details of all nodes."""
    return [node for node in nodes if node["op_name"] == _PARTITION]


def share_of(nodes: Sequence[Mapping[str, Any]], partitions: Sequence[Mapping[str, Any]]) -> GraphShare:
    """What `partitions` took of a graph, by the runtime's details of all nodes."""
    operators = [node for node in nodes if node["op_name"] != _PARTITION]
    taken = taken_by(nodes, partitions)
    left = Counter(node["op_name"] for node in operators if node["index"] not in taken)
    return GraphShare(len(operators), len(taken), len(partitions), dict(left.most_common()))


def taken_by(nodes: Sequence[Mapping[str, Any]], partitions: Sequence[Mapping[str, Any]]) -> set[int]:
    """The places in a graph of the operators that `partitions` took.

    The runtime keeps the nodes that a partition replaced, without saying which: they are those
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
