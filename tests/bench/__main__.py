"""`python -m tests.bench`: the service against the bare loop of the same work; see docs/performance.md."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.bundle import load_bundle
from service.settings import DEFAULT_BUNDLE
from tests.bench import report
from tests.bench.latency import measure_latency
from tests.bench.photos import large_photo, small_photo, wide_photo
from tests.bench.plan import Plan, two_cores
from tests.bench.throughput import measure_throughput
from tests.bench.wrk import program

# Of the rounds' length: a 99th percentile takes thousands of requests.
LATENCY_ROUNDS = 3
PHOTOS = {"small": small_photo, "wide": wide_photo, "large": large_photo}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are asked for; print their tables."""
    options = _parser().parse_args(arguments)
    program()
    server_cores, load_cores = two_cores()
    os.sched_setaffinity(0, load_cores)  # This process is the load too, or waits.
    with tempfile.TemporaryDirectory(prefix="edgewise-bench-") as folder:
        plan = Plan(
            variant=options.variant,
            seconds=options.seconds,
            rounds=options.rounds,
            connections=options.connections,
            settings={"variant": options.variant, **dict(options.set)},
            folder=Path(folder),
            server_cores=server_cores,
            load_cores=load_cores,
        )
        results = _run(options, plan)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def _run(options: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    photos = [PHOTOS[name](plan.folder) for name in options.photos]
    results: dict[str, Any] = {"variant": plan.variant}
    _show(report.heading(plan.variant, photos, plan.rounds, plan.seconds))
    usual = not (options.throughput or options.latency)
    if usual or options.throughput:
        throughput = measure_throughput(plan, photos)
        results["throughput"] = [asdict(result) for result in throughput]
        _show(report.throughput_table(throughput))
    if usual or options.latency:
        seconds = LATENCY_ROUNDS * plan.rounds * plan.seconds
        latency = measure_latency(plan, photos[0], seconds)
        results["latency"] = asdict(latency)
        _show(report.latency_table([latency]))
    return results


def _show(text: str) -> None:
    sys.stdout.write(text + "\n\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--throughput", action="store_true", help="requests/s and processor time")
    parser.add_argument("--latency", action="store_true", help="of evenly paced requests")
    parser.add_argument(
        "--variant",
        default=load_bundle(DEFAULT_BUNDLE).manifest.default_variant,
        help="of the default bundle (default %(default)s)",
    )
    parser.add_argument("--seconds", type=_positive, default=2, help="of each measurement (default 2)")
    parser.add_argument("--rounds", type=_positive, default=5, help="of all in turn (default 5)")
    parser.add_argument(
        "--connections", type=_numbers, default=(1, 8, 64), metavar="A,B", help="of wrk (default 1,8,64)"
    )
    parser.add_argument(
        "--photos",
        nargs="+",
        choices=PHOTOS,
        default=["small", "large"],
        help="default: small and large; all parts but the throughput are measured with the first",
    )
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the service, without EDGEWISE_; may be given more than once",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results, each round's too")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name.lower(), value


if __name__ == "__main__":
    main()
