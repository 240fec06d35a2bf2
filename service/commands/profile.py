"""`python -m service profile`: how long each operator of a bundle's variants takes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from service.bundle.folder import load_bundle
from service.commands.device import describe_software
from service.commands.output import write_result
from service.commands.table import table
from service.commands.variants import variants_to_measure
from service.errors import StartError
from service.host.output import show
from service.inference.delegates import Delegate
from service.inference.runtime import RUNTIME
from service.measuring.profiling import THREADS
from service.measuring.profiling import profile as profile_variants
from service.measuring.progress import rounds_progress
from service.results.profile import SCHEMA_VERSION, OperatorProfile, Profile, VariantProfile
from service.results.report import Device
from service.settings import Settings


def profile(
    settings: Settings,
    device: Device | None,
    json_file: Path | None,
    *,
    variants: Sequence[str] | None,
    runs: int,
    top: int,
) -> None:
    """Measure the operators of variants, with one thread; print the `top` slowest ones of each.

    `variants`: None means all that are here.
    `device`: the description of this device, to be written to `json_file` with the times of all operators.

    Raises:
        StartError: the bundle can't be used, or the device is emulated.
    """
    if device and device.emulated:
        raise StartError(f"{device.machine} is emulated here: times of operators would mean nothing")
    bundle = load_bundle(settings.bundle, settings.bundle_public_key)
    measured = profile_variants(
        bundle,
        variants_to_measure(bundle, variants),
        runs=runs,
        delegate=settings.chosen_delegate,
        progress=rounds_progress,
    )
    sections = [f"{RUNTIME}, delegate {settings.delegate}, one thread, medians of {runs} rounds"]
    sections += [_section(name, result, top, settings.chosen_delegate) for name, result in measured.items()]
    text = "\n\n".join(sections)
    if device is None:
        show(text)
        return
    written = Profile(
        schema_version=SCHEMA_VERSION,
        date=datetime.now(UTC).date(),
        device=device,
        software=describe_software(settings.chosen_delegate),
        threads=THREADS,
        bundle=bundle.manifest.name,
        variants=measured,
    )
    write_result(text, json_file, written.model_dump(mode="json"))


def _section(name: str, result: VariantProfile, top: int, delegate: Delegate) -> str:
    kinds = _kinds(result.operators)
    timed = [(o.p50_seconds, o) for o in result.operators if o.p50_seconds is not None]
    dearest = sorted(timed, key=lambda pair: -pair[0])[:top]
    header = ["layer", "operator", "kind", "by", "input", "output", "ms", "%"]
    rows = [
        [
            _layer(operator.layer),
            str(operator.index),
            kinds[operator.index],
            str(delegate if operator.taken else Delegate.NONE),
            _shape(operator.inputs[0]) if operator.inputs else "",
            _shape(operator.outputs[0]),
            f"{1e3 * seconds:.3f}",
            f"{100 * (operator.share or 0):.1f}",
        ]
        for seconds, operator in dearest
    ]
    head = (
        f"{name}: the whole graph {1e3 * result.p50_seconds:.2f} ms, its {len(result.operators)} operators"
        f" one by one {1e3 * result.sum_seconds:.2f} ms, {result.sum_ratio:.2f} of that"
    )
    return "\n".join([head, "", table(header, rows), "", _by_kind(kinds, result.operators)])


def _kinds(operators: Sequence[OperatorProfile]) -> dict[int, str]:
    """Return what is timed with each operator: its kind, after those of the operators measured with it."""
    kinds: dict[int, list[str]] = {}
    for operator in operators:
        at = operator.index if operator.measured_with is None else operator.measured_with
        kinds.setdefault(at, []).append(operator.kind)
    return {at: "+".join(dict.fromkeys(names)) for at, names in kinds.items()}


def _by_kind(kinds: Mapping[int, str], operators: Sequence[OperatorProfile]) -> str:
    counts, shares = Counter(kinds.values()), dict.fromkeys(kinds.values(), 0.0)
    for operator in operators:
        if operator.share is not None:
            shares[kinds[operator.index]] += operator.share
    falling = sorted(shares.items(), key=lambda item: -item[1])
    parts = [f"{kind} ({counts[kind]}) {100 * share:.1f} %" for kind, share in falling]
    return f"By kind: {', '.join(parts)}"


def _layer(name: str) -> str:
    """Return a tensor's name without the network's; of several merged names, the first."""
    return "/".join(name.split(";")[0].split("/")[-2:])


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
