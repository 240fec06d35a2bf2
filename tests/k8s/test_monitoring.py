"""The files of rules and dashboard; tests/system/test_prometheus.py runs them."""

import re
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from tests.k8s.monitoring import (
    FOLDER,
    ROOT,
    RULES,
    Panel,
    alerts,
    dashboard,
    panels,
    promtool,
    queries,
    recorded,
)

TESTS = sorted(Path(__file__).parent.glob("*.test.yaml"))
QUESTIONS = [
    "Is it fast enough?",
    "Is it still right?",
    "What does this variant cost me?",
    "Can I take the smaller one?",
]
KINDS = {"stat", "table", "timeseries"}
# Some of Grafana's names of units; after `suffix:` any text may follow.
UNITS = {"bytes", "celsius", "cps", "joule", "none", "percentunit", "reqps", "s", "suffix: nats", "watt"}
COLUMNS = 24


def anchor(heading: str) -> str:
    return f"docs/alerts.md#{heading.lower()}"


def test_prometheus_accepts_configuration_and_rules() -> None:
    promtool("check", "config", FOLDER / "prometheus.yml")


@pytest.mark.parametrize("tests", TESTS, ids=lambda path: path.name)
def test_rules_pass_their_tests(tests: Path) -> None:
    promtool("test", "rules", tests)


def test_every_rule_has_a_test() -> None:
    texts = {path.name: path.read_text() for path in TESTS}
    tested = {test["name"].split(",")[0] for test in yaml.safe_load(texts["alerts.test.yaml"])["tests"]}
    assert tested == set(alerts())
    assert {name for name in recorded() if name not in texts["recordings.test.yaml"]} == set()


@pytest.mark.parametrize("name", alerts())
def test_an_alert_has_a_severity_and_a_runbook(name: str) -> None:
    alert = alerts()[name]
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == anchor(name)


def test_every_alert_is_documented_with_its_severity() -> None:
    sections = re.findall(r"^## (\w+)\n\n(\w+)\.", (ROOT / "docs" / "alerts.md").read_text(), re.MULTILINE)
    assert [(name, severity.lower()) for name, severity in sections] == [
        (name, alert["labels"]["severity"]) for name, alert in alerts().items()
    ]


def test_the_dashboard_asks_four_questions() -> None:
    rows = [panel for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert [row["title"] for row in rows] == QUESTIONS


def test_panels_have_unique_ids_and_do_not_overlap() -> None:
    everything = dashboard()["panels"]
    ids = [panel["id"] for panel in everything]
    assert len(ids) == len(set(ids))
    for first, second in combinations(everything, 2):
        assert not _overlap(first, second), (first["title"], second["title"])
    for panel in everything:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS, panel["title"]


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_has_a_description_units_and_legends(panel: Panel) -> None:
    assert panel["type"] in KINDS
    assert panel["description"].endswith(".")
    overrides = [property_ for o in panel["fieldConfig"]["overrides"] for property_ in o["properties"]]
    units = [property_["value"] for property_ in overrides if property_["id"] == "unit"]
    assert {panel["fieldConfig"]["defaults"]["unit"], *units} <= UNITS
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    references = [target["refId"] for target in panel["targets"]]
    assert references
    assert len(references) == len(set(references))
    for target in panel["targets"]:
        # A table has names of columns in place of a legend.
        assert target["expr"]
        assert target.get("legendFormat") or target["format"] == "table"


def test_what_is_shown_without_a_time_axis_is_the_current_value() -> None:
    # Of a range, Grafana would show the last value even if it is hours old.
    for panel in panels():
        if panel["type"] != "timeseries":
            assert all(target["instant"] for target in panel["targets"]), panel["title"]


def test_described_thresholds_are_those_of_the_alerts() -> None:
    for panel in panels():
        for name, bound in re.findall(
            r"(Edgewise\w+) fires (?:above|below) (\d+(?:\.\d+)?)", panel["description"]
        ):
            numbers = re.findall(r"[<>] (\d+(?:\.\d+)?)", alerts()[name]["expr"])
            assert float(bound) in {scale * float(number) for number in numbers for scale in (1, 100)}


def test_prometheus_accepts_every_query(tmp_path: Path) -> None:
    filled = queries(job="edgewise", instance=".*", variant=".*", __rate_interval="1m")
    rules = [
        {"record": "query", "expr": expression, "labels": {"title": title}} for title, expression in filled
    ]
    assert len(rules) > len(QUESTIONS)
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", file)


def test_the_processor_time_of_a_request_is_the_same_when_the_load_begins(tmp_path: Path) -> None:
    shown = dict(queries(job="edgewise", instance="a", variant=".*", __rate_interval="1m"))
    # From minute 10 on, two requests a second that take 10 ms each.
    series = {
        'edgewise_requests_total{route="/v1/classify", status="200", instance="a", job="edgewise"}': (
            "0+0x40 0+30x20"
        ),
        'process_cpu_seconds_total{instance="a", job="edgewise"}': "0+0x40 0+0.3x20",
    }
    expression = f"round({shown['Processor time a request, A']}, 0.001)"
    _evaluate(tmp_path, series, expression, "12m", {"{}": 0.01})


def test_pods_of_one_node_are_told_apart(tmp_path: Path) -> None:
    shown = dict(queries(job="edgewise", instance="a", variant=".*", __rate_interval="1m"))
    answers_where = shown["What answers where, A"]
    # Both pods have both variants loaded.
    series = {
        f'{metric}{{pod="{pod}", variant="{variant}", instance="a", job="edgewise"}}': f"{value}x20"
        for pod, active in (("one", "qat"), ("two", "ptq"))
        for variant in ("qat", "ptq")
        for metric, value in (
            ("edgewise_variant_info", 1),
            ("edgewise_variant_active", int(variant == active)),
        )
    }
    rows = ('{instance="a", pod="one", variant="qat"}', '{instance="a", pod="two", variant="ptq"}')
    _evaluate(tmp_path, series, answers_where, "5m", dict.fromkeys(rows, 1))
    for panel in panels():
        for target in panel["targets"]:
            legend = target.get("legendFormat", "")
            if "{{instance}}" in legend and "by (instance)" not in target["expr"]:
                assert "{{pod}}" in legend, panel["title"]


def test_the_documented_expression_finds_a_silent_node_for_a_day(tmp_path: Path) -> None:
    (expression,) = re.findall(r"`([^`]+ unless up)`", (ROOT / "docs" / "alerts.md").read_text())
    # Node a is silent from hour 1 on.
    silent = {'up{instance="a"}': 1.0}
    series = {'up{instance="a"}': "1x240", 'up{instance="b"}': "1x6400"}
    for hour, found in ((1, {}), (2, silent), (24, silent), (26, {})):
        _evaluate(tmp_path, series, expression, f"{hour}h", found)


def test_aggregations_keep_the_labels_of_targets() -> None:
    # Kubernetes adds labels to targets, which `by` drops; only sums over all nodes may use it.
    for line in RULES.read_text().splitlines():
        assert "by (" not in line or "by (job, " in line, line


def _evaluate(
    folder: Path, series: dict[str, str], expression: str, time: str, expected: dict[str, float]
) -> None:
    """Check an expression's value at a time, given all series, each with a value every 15 seconds."""
    unit_test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": time,
                "exp_samples": [{"labels": labels, "value": value} for labels, value in expected.items()],
            }
        ],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"tests": [unit_test]}))
    promtool("test", "rules", file)


def _overlap(first: Panel, second: Panel) -> bool:
    a, b = first["gridPos"], second["gridPos"]
    return bool(
        a["x"] < b["x"] + b["w"]
        and b["x"] < a["x"] + a["w"]
        and a["y"] < b["y"] + b["h"]
        and b["y"] < a["y"] + a["h"]
    )
