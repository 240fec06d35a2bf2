"""The pins of the environments: whole, consistent with one another and with what the code imports."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.imports import read_imports

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ROOT / "requirements"
# ai-edge-litert asks for it, and requirements/serve.in bounds its version.
NOT_IMPORTED = {"backports-strenum"}
# What is imported from Python's own library where that has it: from 3.14 on.
LATER_PYTHONS = {"compression"}
# What LiteRT has, and its schema of files is read by.
LITERTS = {"ai-edge-litert", "backports-strenum", "flatbuffers"}
# The other runtime, which is never in the same environment.
OTHER_RUNTIME = "tflite-runtime"

pinned = pytest.mark.parametrize("name", ["serve", "build", "dev", "tflite", "loadtest", "compare"])


def pins(name: str) -> dict[str, list[str]]:
    """Each pin of a compiled file, markers included, with its hashes."""
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    blocks = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "").splitlines()
    return {
        block.split("--hash=")[0].strip(): re.findall(r"--hash=sha256:([0-9a-f]{64})\b", block)
        for block in blocks
    }


def pins_anywhere(name: str) -> dict[str, list[str]]:
    """Each pin with its hashes, on whichever platforms: a larger environment needs some on more of them."""
    return {pin.split(" ; ")[0]: hashes for pin, hashes in pins(name).items()}


def project(pin: str) -> str:
    return normalized(re.split(r"[=<>; \[]", pin)[0])


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def asked(name: str) -> set[str]:
    """The projects that an .in file names itself."""
    lines = (REQUIREMENTS / f"{name}.in").read_text().splitlines()
    return {project(line) for line in lines if not line.startswith(("#", "-r "))}


@pinned
def test_every_requirement_is_one_version_with_hashes(name: str) -> None:
    assert len(pins(name)) > 20
    assert [pin for pin in pins(name) if not re.fullmatch(r"[a-z0-9.-]+==[^ ;*]+( ; .+)?", pin)] == []
    assert [pin for pin, hashes in pins(name).items() if not hashes] == []


@pinned
def test_the_pins_hold_what_was_asked_for(name: str) -> None:
    assert asked(name) <= {project(pin) for pin in pins(name)}


@pytest.mark.parametrize(("smaller", "larger"), [("serve", "build"), ("build", "dev")])
def test_what_is_tested_is_what_is_served(smaller: str, larger: str) -> None:
    assert pins_anywhere(smaller).items() <= pins_anywhere(larger).items()


def test_what_is_tested_is_what_makes_the_load() -> None:
    larger, smaller = pins_anywhere("dev"), pins_anywhere("loadtest")
    assert {pin for pin, hashes in smaller.items() if larger.get(pin) != hashes} == set()


def test_the_other_runtime_changes_nothing_but_what_it_must() -> None:
    assert asked("tflite") == asked("serve") - LITERTS | {OTHER_RUNTIME}
    served = pins("serve")
    differ = {project(pin) for pin, hashes in pins("tflite").items() if served.get(pin) != hashes}
    assert differ == {OTHER_RUNTIME, "numpy"}


def test_other_engines_are_compared_with_what_is_served() -> None:
    served = pins("serve")
    compared = {
        pin: hashes for pin, hashes in pins("compare").items() if project(pin) in map(project, served)
    }
    assert {project(pin) for pin in served} == {project(pin) for pin in compared}
    differ = {project(pin) for pin, hashes in compared.items() if served.get(pin) != hashes}
    assert differ <= {"numpy"}


def test_no_other_environment_has_other_engines() -> None:
    engines = {"nncf", "onnx", "onnxruntime", "openvino", "tf2onnx"}
    assert engines <= asked("compare")
    others = ("serve", "build", "dev", "tflite", "loadtest")
    assert engines & {project(pin) for name in others for pin in pins(name)} == set()


def test_the_service_installs_no_tensorflow() -> None:
    names = {project(pin) for pin in pins("serve")}
    assert {name for name in names if name.startswith("tensorflow") or name in ("keras", "tf-keras")} == set()


def distributions(package: str) -> set[str]:
    """The projects whose modules a package of ours imports."""
    imported = {name.split(".")[0] for names in read_imports(ROOT, package).values() for name in names}
    known = packages_distributions()
    # Setuptools, once imported, has copies of others' projects on the path.
    installed = {project(pin) for pin in pins("dev")}
    others = {"service", "build", "loadtest", "tflite_runtime"} | LATER_PYTHONS
    found: set[str] = set()
    for module in imported - sys.stdlib_module_names - others:
        names = {normalized(distribution) for distribution in known[module]}
        found |= names & installed or names
    return found


def test_the_service_asks_for_all_that_it_imports_and_for_nothing_else() -> None:
    # It shares its module's name, backports, with one that is imported.
    assert distributions("service") - {"backports-strenum"} == asked("serve") - NOT_IMPORTED


def test_the_build_stage_asks_for_all_that_it_imports() -> None:
    assert distributions("build") <= asked("serve") | asked("build")


def test_the_load_test_asks_for_all_that_it_imports() -> None:
    # Locust is nothing without gevent, and brings it.
    assert distributions("loadtest") - {"gevent"} == asked("loadtest")


def test_the_versions_of_python_agree() -> None:
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert lowest == ">=3.11"
    assert "--python-version 3.11" in (ROOT / "Makefile").read_text()
    assert "\noldest=11\n" in (REQUIREMENTS / "install").read_text()
    assert "Python 3.11 or newer" in (ROOT / "README.md").read_text()
