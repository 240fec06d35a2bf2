"""Device reports, as users might send them."""

from typing import Any

from service.results.report import DeviceReport

SHA256 = "0123456789abcdef" * 4


def proportion(count: int, total: int) -> dict[str, Any]:
    return {"count": count, "ratio": count / total, "lower": 0.5, "upper": 0.75}


def variant(**changes: Any) -> dict[str, Any]:
    """The JSON of a variant in a report."""
    return {
        "sha256": SHA256,
        "bytes": 8_400_000,
        "precision": "int8",
        "operators": 200,
        "taken": 199,
        "speed": {
            "runs": 200,
            "p50_seconds": 0.0612,
            "p99_seconds": 0.0708,
            "load_seconds": 0.512,
            "resident_bytes": 81_200_000,
            "throughput": [
                {"workers": 1, "per_second": 16.2},
                {"workers": 2, "per_second": 31.9},
                {"workers": 4, "per_second": 58.04},
            ],
            "joules": 0.0831,
        },
        "accuracy": {
            "sha256": SHA256,
            "images": 650,
            "crop": "none",
            "top1": proportion(400, 650),
            "top5": proportion(600, 650),
            "agreement": proportion(640, 650),
        },
        **changes,
    }


def report(**changes: Any) -> dict[str, Any]:
    """The JSON of a report."""
    return {
        "schema_version": 1,
        "date": "2026-11-24",
        "device": {
            "name": "Raspberry Pi 5 Model B Rev 1.0",
            "machine": "aarch64",
            "cpus": {"Cortex-A76": 4},
            "features": ["asimd", "asimddp"],
            "governor": "ondemand",
            "memory_bytes": 8_442_000_000,
            "emulated": False,
        },
        "software": {
            "os": "Debian GNU/Linux 12 (bookworm)",
            "kernel": "6.6.31",
            "python": "3.11.2",
            "service": "0.1.0",
            "runtime": "ai-edge-litert 2.3.0",
            "delegate": "xnnpack",
        },
        "bundle": "imagenet-1k",
        "heat": {
            "before": {"cpu-thermal": 48.2, "rp1_adc": 50.1},
            "after": {"cpu-thermal": 71.9, "rp1_adc": 60.0},
            "clock": {"median": 0.98, "lowest": 0.62},
        },
        "variants": {"ptq": variant()},
        **changes,
    }


def emulated() -> dict[str, Any]:
    """The JSON of a report from an emulated device: without speeds."""
    content = report()
    device = content["device"] | {"name": "emulated aarch64", "emulated": True}
    return content | {"device": device, "heat": None, "variants": {"ptq": variant(speed=None)}}


def parsed(content: dict[str, Any]) -> DeviceReport:
    return DeviceReport.model_validate(content)
