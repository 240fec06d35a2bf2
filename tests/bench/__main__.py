"""`python -m tests.bench`: the service against a bare loop of the same work; see docs/performance.md."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.bundle.folder import load_bundle
from service.settings import DEFAULT_BUNDLE
from tests.bench import memory, overload, report, slow
from tests.bench.latency import measure_latency
from tests.bench.paired import measure_observing, measure_shadow
from tests.bench.photos import PHOTOS, Photo
from tests.bench.plan import Plan, two_cores
from tests.bench.throughput import measure_throughput
from tests.bench.wrk import program

_PARTS = ("throughput", "latency", "shadow", "observing", "overload", "slow", "memory")
# Latencies are measured for this many times longer: a 99th percentile takes many requests.
_STEADY = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that the options name and print their tables."""
    options = _parser().parse_args(arguments)
    if not any(getattr(options, part) for part in _PARTS):
        options.throughput = options.latency = True
    program()
    server_cores, load_cores = two_cores()
    os.sched_setaffinity(0, load_cores)  # This process sends the load, or waits.
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
        photos = [PHOTOS[name](plan.folder) for name in options.photos]
        _show(report.heading(plan.variant, photos, plan.rounds, plan.seconds))
        results = {"variant": plan.variant, **_run(options, plan, photos)}
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def _run(options: argparse.Namespace, plan: Plan, photos: Sequence[Photo]) -> dict[str, Any]:
    """Return each part's results; print its tables as soon as they are complete."""
    results: dict[str, Any] = {}
    first, seconds = photos[0], _STEADY * plan.rounds * plan.seconds
    if options.throughput:
        throughput = measure_throughput(plan, photos)
        results["throughput"] = [asdict(result) for result in throughput]
        _show(report.throughput_table(throughput))
    if options.latency:
        latency = measure_latency(plan, first, seconds)
        results["latency"] = asdict(latency)
        _show(report.latency_table(latency))
    for part, measure in (("shadow", measure_shadow), ("observing", measure_observing)):
        if getattr(options, part):
            pairs = measure(plan, first)
            results[part] = [asdict(pair) for pair in pairs]
            _show(report.paired_table(pairs))
    if options.overload:
        overloaded, afterwards = overload.measure_overload(plan, first, options.overload)
        results["overload"], results["afterwards"] = asdict(overloaded), asdict(afterwards)
        _show(report.overload_table(overloaded), report.afterwards_table(afterwards))
    if options.slow:
        slowed = slow.measure_slow_senders(plan, first, options.slow, _STEADY * plan.seconds)
        results["slow"] = asdict(slowed)
        _show(report.slow_senders_table(slowed))
    if options.memory:
        held = memory.measure_memory(plan, first, options.memory)
        results["memory"] = asdict(held)
        _show(report.memory_table(held))
    return results


def _show(*tables: str) -> None:
    sys.stdout.write("".join(f"{table}\n\n" for table in tables))
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Compare the service with a bare loop that does the same work. Without options, measures"
        " throughput and latency. Tables are printed on standard output; see docs/performance.md.",
    )
    parser.add_argument("--throughput", action="store_true", help="requests/s and processor time")
    parser.add_argument("--latency", action="store_true", help="latency of evenly paced requests")
    parser.add_argument("--shadow", action="store_true", help="what shadow runs cost clients, in pairs")
    parser.add_argument("--observing", action="store_true", help="what the metrics cost clients, in pairs")
    for part, default, what in (
        ("overload", overload.DEFAULT_SECONDS, "seconds at four times the service's capacity"),
        ("slow", slow.DEFAULT_CONNECTIONS, "connections that send a byte a second, next to one client"),
        ("memory", memory.DEFAULT_REQUESTS, "requests, with memory measured after a 20th and after all"),
    ):
        parser.add_argument(
            f"--{part}", type=_positive, nargs="?", const=default, metavar="N", help=f"{what} ({default})"
        )
    variant = load_bundle(DEFAULT_BUNDLE).manifest.default_variant
    parser.add_argument("--variant", default=variant, help=f"the variant of the default bundle ({variant})")
    parser.add_argument("--seconds", type=_positive, default=2, help="seconds of each measurement (2)")
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds of all measurements in turn (5)")
    parser.add_argument(
        "--connections", type=_numbers, default=(1, 8, 64), metavar="N,N", help="of wrk (1,8,64)"
    )
    parser.add_argument(
        "--photos",
        type=_photos,
        default=("small", "large"),
        metavar="A,B",
        help=f"some of {', '.join(PHOTOS)} (small,large); only throughput is measured with all of them",
    )
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the service, without EDGEWISE_; can be repeated",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results, including each round's")
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _photos(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in PHOTOS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(PHOTOS)}")
    return names


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name.lower(), value


if __name__ == "__main__":
    main()
