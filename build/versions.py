"""The versions of the tools that make a bundle."""

import platform
from importlib.metadata import version

# Packages that run a TFLite file and decode photos, and packages that convert a network to one.
_RUNNING = ("ai-edge-litert", "pillow", "simplejpeg")
_CONVERTING = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "ai-edge-quantizer", "numpy")


def tool_versions() -> dict[str, str]:
    """Return the versions that a converted file depends on."""
    return _versions(*_CONVERTING, *_RUNNING)


def running_versions() -> dict[str, str]:
    """Return the versions that the golden vectors of a third-party file depend on."""
    return _versions(*_RUNNING)


def _versions(*packages: str) -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
