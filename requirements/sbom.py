"""Write the bill of materials of unpacked packages to standard output: CycloneDX 1.6, as JSON.

usage: python3 sbom.py FOLDER REPORT VERSION
  FOLDER   the packages, without those that were removed again
  REPORT   what `pip install --report` wrote when it unpacked them
  VERSION  the service's
"""

import json
import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path


def normalized(name: str) -> str:
    """The one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licences(package: Distribution) -> list[dict[str, object]]:
    """What a package says of its licence, by the most exact of the three ways to say it."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return [{"expression": expression}]
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier", [])
        if line.startswith("License :: ") and line != "License :: OSI Approved"
    ]
    # Some have the licence's whole text there.
    names = classifiers or metadata.get("License", "").splitlines()[:1]
    return [{"license": {"name": name}} for name in names]


def component(package: Distribution, sha256: str) -> dict[str, object]:
    """A package as a component; the hash is that of the wheel that it came in."""
    name = normalized(package.metadata["Name"])
    identifier = f"pkg:pypi/{name}@{package.version}"
    return {
        "type": "library",
        "bom-ref": identifier,
        "name": name,
        "version": package.version,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
        "licenses": licences(package),
        "purl": identifier,
    }


def main(folder: str, report: str, version: str) -> None:
    """Write it; what the report has and the folder has not was removed."""
    installed = json.loads(Path(report).read_text())["install"]
    hashes = {
        normalized(one["metadata"]["name"]): one["download_info"]["archive_info"]["hashes"]["sha256"]
        for one in installed
    }
    packages = {normalized(package.metadata["Name"]): package for package in distributions(path=[folder])}
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "edgewise", "version": version}},
        "components": [component(packages[name], hashes[name]) for name in sorted(packages)],
    }
    json.dump(bill, sys.stdout, indent=1)


main(*sys.argv[1:])
