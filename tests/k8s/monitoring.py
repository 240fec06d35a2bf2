"""The rules and the dashboard of k8s/monitoring."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "k8s" / "monitoring"
RULES = FOLDER / "rules.yaml"
QUOTED = re.compile(r'"[^"]*"')
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")

Panel = dict[str, Any]


def program(name: str) -> str:
    """The path of one of Prometheus' programs; skips without it."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name} (apt-get install prometheus), which is not here")
    return path


def promtool(*arguments: str | Path) -> None:
    """Run promtool; fail with its output if it does."""
    command = [program("promtool"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode == 0, result.stdout + result.stderr


def rules() -> list[dict[str, Any]]:
    """All rules, of all groups."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The alerts, by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> set[str]:
    """The names of the recorded metrics."""
    return {rule["record"] for rule in rules() if "record" in rule}


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    loaded: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return loaded


def panels() -> list[Panel]:
    """The dashboard's panels without its rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries(**variables: str) -> Iterator[tuple[str, str]]:
    """Title and expression of every query of the dashboard, with its variables filled in.

    The list of a variable's values is a query, too.
    """
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            selector, label = re.fullmatch(
                r"label_values\((.*), (\w+)\)", variable["query"]["query"]
            ).groups()
            yield f"variable {label}", filled(f"count by ({label}) ({selector})", **variables)
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']}, {target['refId']}", filled(target["expr"], **variables)


def filled(text: str, **variables: str) -> str:
    """A text of the dashboard with its variables filled in."""
    for name, value in variables.items():
        text = text.replace(f"${name}", value)
    assert "$" not in text, text
    return text


def metrics_in(expression: str) -> set[str]:
    """The metrics of the service and of the recording rules that an expression names."""
    names = set(NAME.findall(QUOTED.sub("", expression)))
    return {name for name in names if ":" in name or name.startswith(("edgewise_", "process_"))}
