"""Packages and modules import each other in one direction only: see docs/architecture.md."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.imports import Imports, chain_to, is_within, read_imports

ROOT = Path(__file__).parent.parent
PACKAGES = ("service", "build", "loadtest")
TENSORFLOW = frozenset({"tensorflow", "keras", "tf_keras", "tensorflow_model_optimization"})
HTTP = frozenset({"fastapi", "http", "python_multipart", "starlette", "uvicorn"})
FOUNDATION = frozenset({"service.bundle", "service.errors", "service.host", "service.results"})
CORE = frozenset({"service.images", "service.inference", "service.measuring"})

# Each may import those before it.
BUILD_PACKAGES = (
    "network",
    "photos",
    "quantization",
    "training",
    "search",
    "assembly",
    "evidence",
    "commands",
)
COMMAND_MODULES = (
    *("options", "output", "photo_sets", "network", "training_plan", "estimate"),
    *("subset", "importing", "sign", "evaluate", "report"),
    *("train", "quantize", "add", "sensitivity", "activations", "search", "all", "dispatch"),
)


@dataclass(frozen=True)
class Rule:
    """No chain of imports may lead from a package to `forbidden`, except to `allowed`.

    A package here can also be a single module.
    """

    package: str
    forbidden: frozenset[str]
    allowed: frozenset[str] = frozenset()


def in_order(package: str, parts: Sequence[str]) -> Iterator[Rule]:
    """Rules by which each part of a package imports only those before it."""
    for number, part in enumerate(parts, 1):
        yield Rule(f"{package}.{part}", frozenset(f"{package}.{later}" for later in parts[number:]))


RULES = (
    Rule("service", TENSORFLOW | {"build", "loadtest"}),
    Rule("service.api", frozenset({"service.app", "service.server", "service.__main__"})),
    Rule("service.images", HTTP | {"service"}, FOUNDATION | {"service.images"}),
    Rule("service.inference", HTTP | {"service"}, FOUNDATION | {"service.images", "service.inference"}),
    Rule("service.measuring", HTTP | {"service"}, FOUNDATION | CORE),
    Rule("service.monitoring", HTTP | {"service"}, FOUNDATION | {"service.monitoring", "service.sensors"}),
    Rule("service.sensors", HTTP | {"service", "prometheus_client"}, frozenset({"service.sensors"})),
    Rule("service.bundle", frozenset({"service"}), frozenset({"service.bundle", "service.errors"})),
    Rule("service.results", frozenset({"service"}), FOUNDATION - {"service.host"}),
    Rule("service.host", frozenset({"service"}), frozenset({"service.host", "service.errors"})),
    Rule("service.errors", frozenset({"service"})),
    Rule("service.commands", HTTP | {"service.api", "service.app"}),
    Rule("service.selection", HTTP | {"service.api", "service.app", "service.server"}),
    Rule("service.switching", HTTP | {"service.api", "service.app", "service.server"}),
    Rule("build", frozenset({"service", "loadtest"}), FOUNDATION | CORE),
    Rule("loadtest", TENSORFLOW | {"service", "build"}),
    *in_order("build", BUILD_PACKAGES),
    *in_order("build.commands", COMMAND_MODULES),
)
RULE_OF = {rule.package: rule for rule in RULES}


def modules_of(imports: Imports, package: str) -> list[str]:
    return sorted(module for module in imports if is_within(module, frozenset({package})))


def violations(imports: Imports, rule: Rule) -> list[str]:
    chains = (
        chain_to(imports, module, rule.forbidden, rule.allowed)
        for module in modules_of(imports, rule.package)
    )
    return [" → ".join(chain) for chain in chains if chain]


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture(scope="module")
def imports() -> Imports:
    return read_imports(ROOT, *PACKAGES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.package)
def test_no_package_imports_what_is_forbidden(imports: Imports, rule: Rule) -> None:
    assert violations(imports, rule) == []


def test_every_package_of_the_project_has_a_rule() -> None:
    packages = {path.parent.name for path in ROOT.glob("[a-z]*/__init__.py")}
    assert packages <= set(PACKAGES)
    assert packages <= set(RULE_OF)


@pytest.mark.parametrize("package", ["service.api", "service.inference", "service.monitoring", "build"])
def test_the_packages_of_the_rules_exist(imports: Imports, package: str) -> None:
    assert len(modules_of(imports, package)) > 1


def below(imports: Imports, package: str) -> set[str]:
    """The names of the modules and packages directly below a package."""
    names = (module.removeprefix(package) for module in modules_of(imports, package))
    return {name.split(".")[1] for name in names if name}


def test_every_part_of_the_build_stage_has_a_place_in_the_order(imports: Imports) -> None:
    packages = {name for name in below(imports, "build") if (ROOT / "build" / name).is_dir()}
    assert packages == set(BUILD_PACKAGES)
    assert below(imports, "build.commands") == set(COMMAND_MODULES)


def test_no_module_imports_a_test_module() -> None:
    # What tests share is in modules beside them, such as tests/system/processes.py.
    modules = read_imports(ROOT, "tests")
    tests = {module for module in modules if module.rpartition(".")[2].startswith("test_")}
    assert f"tests.{Path(__file__).stem}" in tests
    assert {module: names & tests for module, names in modules.items() if names & tests} == {}


def test_the_service_runs_without_tensorflow(imports: Imports) -> None:
    # Only running the modules shows what other packages import in turn.
    modules = modules_of(imports, "service")
    program = f"import sys; [__import__(m) for m in {modules}]; print(*sys.modules)"
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    assert set(modules) <= loaded
    assert {name for name in loaded if is_within(name, TENSORFLOW | {"build"})} == set()


@pytest.mark.parametrize(
    ("package", "files", "chain"),
    [
        pytest.param(
            "service",
            {"service/app.py": "import tensorflow as tf"},
            "service.app → tensorflow",
            id="tensorflow",
        ),
        pytest.param(
            "service",
            {"service/app.py": "def late():\n    from keras.layers import Dense"},
            "service.app → keras.layers.Dense",
            id="inside-a-function",
        ),
        pytest.param(
            "service",
            {"service/app.py": "from build.model import network", "build/model.py": ""},
            "service.app → build.model",
            id="build",
        ),
        pytest.param(
            "service.inference",
            {"service/inference/pool.py": "from service import settings", "service/settings.py": ""},
            "service.inference.pool → service.settings",
            id="settings",
        ),
        pytest.param(
            "service.inference",
            {
                "service/inference/pool.py": "from ..api.problems import Problem",
                "service/api/problems.py": "",
            },
            "service.inference.pool → service.api.problems",
            id="relative",
        ),
        pytest.param(
            "service.inference",
            {
                "service/inference/__init__.py": "from . import pool",
                "service/inference/pool.py": "import http.client",
            },
            "service.inference → service.inference.pool → http.client",
            id="relative-in-a-package",
        ),
        pytest.param(
            "service.images",
            {
                "service/images/pixels.py": "from service.errors import CorruptImage",
                "service/errors.py": "from fastapi import HTTPException",
            },
            "service.images.pixels → service.errors → fastapi.HTTPException",
            id="through-another-module",
        ),
        pytest.param(
            "service.images",
            {
                "service/__init__.py": "import service.settings",
                "service/settings.py": "",
                "service/images/pixels.py": "",
            },
            "service.images.pixels → service.settings",
            id="through-the-package",
        ),
        pytest.param(
            "service.monitoring",
            {"service/monitoring/metrics.py": "import service.api.app", "service/api/app.py": ""},
            "service.monitoring.metrics → service.api.app",
            id="monitoring",
        ),
        pytest.param(
            "build",
            {"build/evaluation.py": "from service.settings import Settings", "service/settings.py": ""},
            "build.evaluation → service.settings",
            id="build-imports-settings",
        ),
        pytest.param(
            "loadtest",
            {"loadtest/users.py": "import service.errors", "service/errors.py": ""},
            "loadtest.users → service.errors",
            id="loadtest",
        ),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, package: str, files: dict[str, str], chain: str) -> None:
    write(tmp_path, files)
    assert chain in violations(read_imports(tmp_path, *PACKAGES), RULE_OF[package])


def test_allowed_imports_are_not_reported(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "service/errors.py": "class E(Exception): ...",
            "service/bundle/folder.py": "from service.errors import E",
            "service/images/pixels.py": "from service.bundle.folder import load_bundle",
            "service/api/classify.py": "import fastapi\nfrom service.images.pixels import decode",
            "build/model.py": "import tensorflow\nfrom service.images import pixels",
            "build/export.py": "from service import bundle",
        },
    )
    imports = read_imports(tmp_path, *PACKAGES)
    assert [chain for rule in RULES for chain in violations(imports, rule)] == []
