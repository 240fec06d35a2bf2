"""Loading one variant in a separate process: what that takes, and whether the process survives.

`python -m service.inference.footprint BUNDLE PUBLIC_KEY VARIANT DELEGATE OPTIONS` prints what it takes as
JSON; the key is empty if the bundle need not be signed.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from service.bundle.folder import Bundle, load_bundle, verify_variant
from service.errors import DelegateError, EdgewiseError, StartError
from service.host.process import STANDARD_ERROR, resident_bytes
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate, parse_delegate

_ROOT = Path(__file__).parents[2]
# A slow device compiles a graph for minutes, but a delegate that hangs must not block the start forever.
MAX_SECONDS = 300


@dataclass(frozen=True)
class Footprint:
    """What a variant takes.

    `load_seconds`: verifying, loading and self-test. `resident_bytes`: of the whole process after
    that; None if the system has no /proc.
    """

    load_seconds: float
    resident_bytes: int | None


def measure_footprint(bundle: Bundle, variant: str, delegate: Delegate) -> Footprint:
    """Load a variant in a new process and measure it there.

    Raises:
        StartError: the variant can't be loaded.
    """
    process = _load_alone(bundle, variant, delegate, MAX_SECONDS)
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise StartError(f"loading {variant} in a separate process failed: {reason}")
    return Footprint(**json.loads(process.stdout))


def try_out(bundle: Bundle, variant: str, delegate: Delegate, max_seconds: float = MAX_SECONDS) -> None:
    """Check whether a delegate with its own library crashes the process that loads it.

    Any other fault shows when it is loaded for use. The file is verified first, because that process reads
    the manifest, and checks its signature, again.

    Raises:
        BundleError: the variant's file is missing or damaged.
        DelegateError: the process crashed, or was not done in time.
    """
    if not delegate.is_built_in:
        verify_variant(bundle, variant)
        _load_alone(bundle, variant, delegate, max_seconds)


def _load_alone(
    bundle: Bundle, variant: str, delegate: Delegate, max_seconds: float
) -> subprocess.CompletedProcess[str]:
    key = str(bundle.public_key.absolute()) if bundle.public_key else ""
    try:
        process = subprocess.run(  # noqa: S603 (this module)
            [sys.executable, "-m", __name__, str(bundle.path.absolute()), key, variant, *delegate.arguments],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=max_seconds,
        )
    except subprocess.TimeoutExpired:
        raise DelegateError(
            f"delegate {delegate} did not load {variant} within {max_seconds:g} seconds; use another one, or"
            " xnnpack"
        ) from None
    if process.returncode < 0:
        raise DelegateError(
            f"delegate {delegate} crashed the process that tried to load {variant} with it"
            f" ({signal.Signals(-process.returncode).name}); use another one, or xnnpack"
        )
    return process


def _load(bundle: Bundle, variant: str, delegate: Delegate) -> Footprint:
    start = perf_counter()
    classifier = Classifier(bundle, variant, delegate)
    load_seconds = perf_counter() - start
    resident = resident_bytes()
    del classifier
    return Footprint(load_seconds, resident)


if __name__ == "__main__":
    # Standard output is for the result, so what a delegate's library prints goes to standard error.
    result = os.fdopen(os.dup(1), "w")
    os.dup2(STANDARD_ERROR, 1)
    try:
        path, public_key, name, *delegated = sys.argv[1:]
        bundle = load_bundle(Path(path), Path(public_key) if public_key else None)
        footprint = _load(bundle, name, parse_delegate(*delegated))
        result.write(json.dumps(asdict(footprint)))
        result.flush()
    except EdgewiseError as error:
        sys.exit(str(error))
