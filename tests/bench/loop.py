"""The bare loop: decoding and inference of one photo, repeated, with nothing around them.

`python -m tests.bench.loop VARIANT` is the program; `bare_loop` starts it.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

from PIL import Image

from service.bundle.folder import load_bundle
from service.host.process import keep_little_memory
from service.images.pixels import fit
from service.inference.classifier import Classifier
from service.settings import DEFAULT_BUNDLE
from tests.bench.measured import Decoder, Measured
from tests.bench.process import children_on
from tests.system.processes import ROOT


class BareLoop:
    """A process that loops for a given time on request, and waits in between."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def measure(self, photo: Path, decoder: Decoder, seconds: float) -> Measured:
        """Loop over the photo for `seconds`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(photo), decoder, seconds]) + "\n")
        self._process.stdin.flush()
        return Measured(**json.loads(self._process.stdout.readline()))


@contextmanager
def bare_loop(variant: str, cores: frozenset[int]) -> Iterator[BareLoop]:
    """Start a process on these cores, with the model loaded."""
    with children_on(cores):
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "tests.bench.loop", variant],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    with process:  # Leaving it closes standard input, which ends the process.
        yield BareLoop(process)


def _by_service(classifier: Classifier, data: bytes) -> None:
    classifier.classify(data)


def _by_pillow(classifier: Classifier, data: bytes) -> None:
    """Decode with Pillow alone: at full size, without scaling in the decoder."""
    with Image.open(BytesIO(data)) as image:
        pixels = fit(image.convert("RGB"), classifier.bundle.manifest.preprocessing)
    classifier.probabilities(pixels)


_BY: dict[Decoder, Callable[[Classifier, bytes], None]] = {
    Decoder.SERVICE: _by_service,
    Decoder.PILLOW: _by_pillow,
}


def _loop(classifier: Classifier, decoder: Decoder, path: str, seconds: float) -> Measured:
    classify = _BY[decoder]
    data = Path(path).read_bytes()
    count = 0
    cpu, start = time.process_time(), time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        classify(classifier, data)
        count += 1
    return Measured(answered=count, seconds=passed, cpu_seconds=time.process_time() - cpu)


def main() -> None:
    """Answer each line [photo, decoder, seconds] on standard input with a `Measured` on standard output."""
    # As in the service: by its own rules, glibc may request the memory of each photo anew, by chance.
    keep_little_memory()
    classifier = Classifier(load_bundle(DEFAULT_BUNDLE), sys.argv[1])
    for line in sys.stdin:
        path, decoder, seconds = json.loads(line)
        measured = _loop(classifier, Decoder(decoder), path, seconds)
        sys.stdout.write(json.dumps(asdict(measured)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
