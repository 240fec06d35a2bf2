"""Validation of the manifests of k8s/ against the schemas of Kubernetes and of what extends it."""

from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

from tests.k8s.manifests import Document

# The oldest that docs/kubernetes.md supports, and the newest that has schemas.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
CUSTOM = yaml.safe_load(Path(__file__).with_name("custom_resources.yaml").read_text())


def validate(document: Document) -> None:
    """Raise ValidationError if a document is not valid."""
    if document["kind"] in CUSTOM:
        jsonschema.validate(document["spec"], CUSTOM[document["kind"]])
    else:
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
