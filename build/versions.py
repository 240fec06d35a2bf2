"""The versions of the tools that a bundle is made with."""

import platform
from importlib.metadata import version


def tool_versions() -> dict[str, str]:
    """The versions that a converted file depends on."""
    tools = {
        name: version(name)
        for name in (
            "tensorflow",
            "tf-keras",
            "ai-edge-quantizer",
            "ai-edge-litert",
            "pillow",
            "simplejpeg",
        )
    }
    return {"python": platform.python_version(), **tools}
