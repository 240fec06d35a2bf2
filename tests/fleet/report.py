"""What happened to the requests of each node, and what Prometheus showed, in Markdown."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.markdown import table
from tests.fleet.node import VARIANT, Node
from tests.k8s.monitoring import queries
from tests.system.prometheus import Prometheus

PANELS = ("Nodes up, A", "Success, A", "Slowest p99, A", "Workers busy, A")
# Every sent request was answered, refused, or got no answer.
_HEAD = (
    "node",
    "sent",
    "answered",
    "refused",
    "no answer",
    "of these under way",
    "200 in its log",
    "other in its log",
)


@dataclass(frozen=True)
class Seen:
    """What Prometheus showed of a node: alerts that fired in a period, and panels at its end."""

    alerts: list[str]
    panels: dict[str, str]


def instance_of(node: Node) -> str:
    """The label `instance` of a node in Prometheus."""
    return f"127.0.0.1:{node.proxy.port}"


def look(prometheus: Prometheus, node: Node, fired: set[str]) -> Seen:
    """The dashboard's values of a node now, and the alerts that fired."""
    expressions = dict(
        queries(job="edgewise", instance=instance_of(node), variant=VARIANT, __rate_interval="5s")
    )
    return Seen(sorted(fired), {title: _value(prometheus.query(expressions[title])) for title in PANELS})


def requests_table(nodes: dict[str, Node], reports: dict[str, Path]) -> str:
    """A table of what happened to requests."""
    return table(_HEAD, [_row(name, node, reports[name]) for name, node in nodes.items()])


def seen_table(seen: dict[str, Seen]) -> str:
    """A table of what Prometheus showed."""
    rows = [[name, ", ".join(one.alerts) or "none", *one.panels.values()] for name, one in seen.items()]
    return table(["node", "alerts", *(title.removesuffix(", A") for title in PANELS)], rows)


def _row(name: str, node: Node, report: Path) -> list[str]:
    content = json.loads((report / "report.json").read_text())
    counts, log = content["counts"], node.statuses
    # A stopping node answers 503 with Retry-After: a refusal, which the load test counts as an error.
    busy = sum(number for what, number in content["errors"].items() if what.startswith("503"))
    return [
        name,
        str(counts["requests"]),
        str(counts["answered"]),
        str(counts["refused"] + busy),
        str(sum(content["errors"].values()) - busy),
        str(node.proxy.unanswered),
        # Minus the photo that the load test sends to get the classes, and which it does not count.
        str(log["200"] - 1),
        ", ".join(f"{number} × {status}" for status, number in log.items() if status != "200") or "none",
    ]


def _value(found: list[dict[str, Any]]) -> str:
    return f"{float(found[0]['value'][1]):.3g}" if found else "no data"
