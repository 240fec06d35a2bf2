"""What loading one variant takes, measured in a process that holds nothing else.

`python -m service.inference.footprint BUNDLE VARIANT DELEGATE` prints it as JSON.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from service.bundle import Bundle, load_bundle
from service.errors import EdgewiseError, StartError
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from service.process import resident_bytes

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Footprint:
    """What a variant takes.

    `load_seconds`: verifying, loading and self-test. `resident_bytes`: of the whole process after
    that; None where the system has no /proc.
    """

    load_seconds: float
    resident_bytes: int | None


def measure_footprint(bundle: Bundle, variant: str, delegate: Delegate) -> Footprint:
    """Load a variant in a new process and measure it there.

    Raises:
        StartError: the variant can't be loaded.
    """
    process = subprocess.run(  # noqa: S603 (this very module)
        [sys.executable, "-m", __name__, str(bundle.path.absolute()), variant, delegate],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise StartError(f"loading {variant} in a process of its own failed: {reason}")
    return Footprint(**json.loads(process.stdout))


def _load(bundle: Bundle, variant: str, delegate: Delegate) -> Footprint:
    start = perf_counter()
    classifier = Classifier(bundle, variant, delegate)
    load_seconds = perf_counter() - start
    resident = resident_bytes()
    del classifier
    return Footprint(load_seconds, resident)


if __name__ == "__main__":
    try:
        path, name, by = sys.argv[1:]
        sys.stdout.write(json.dumps(asdict(_load(load_bundle(Path(path)), name, Delegate(by)))))
    except EdgewiseError as error:
        sys.exit(str(error))
