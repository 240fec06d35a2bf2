"""The machine and the programs that generate the load."""

import os
import platform
from importlib.metadata import version
from typing import Any


def machine() -> dict[str, Any]:
    """Describe the machine that generates the load."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
    }


def versions() -> dict[str, str]:
    """Return the versions of the programs that generate the load."""
    return {"Python": platform.python_version(), "Locust": version("locust")}
