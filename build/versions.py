"""The versions of the tools that a bundle is made with."""

import platform
from importlib.metadata import version

# What runs a file, and makes pixels of photos; and what converts a network to one.
_RUNNING = ("ai-edge-litert", "pillow", "simplejpeg")
_CONVERTING = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "ai-edge-quantizer", "numpy")


def tool_versions() -> dict[str, str]:
    """The versions that a converted file depends on."""
    return _versions(*_CONVERTING, *_RUNNING)


def running_versions() -> dict[str, str]:
    """The versions that the golden vectors of a file depend on which others converted."""
    return _versions(*_RUNNING)


def _versions(*packages: str) -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
