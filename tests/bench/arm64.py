"""`python -m tests.bench.arm64 PHOTOS`: compare the answers of the arm64 image with those on x86-64.

podman builds the image and runs it emulated, as a Cortex-A72 and as a Cortex-A76. Every photo is sent to it
and to a service on this machine, for each variant. A Markdown table is printed on standard output.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from service.bundle.folder import load_bundle
from service.images.formats import sniff
from service.settings import DEFAULT_BUNDLE
from tests.system.emulation import A72, A76, EMULATION, as_cpu
from tests.system.images import Podman
from tests.system.processes import Service, serving

CPUS = {"cortex-a72": A72, "cortex-a76": A76}
PATIENCE = 60.0
HEAD = """\
| variant | emulated as | same top-1 | probabilities that differ % | max. difference % | mean difference % |
| --- | --- | --: | --: | --: | --: |
"""
ROW = "| {} | {} | {} of {} | {:.2f} | {:.3g} | {:.2g} |\n"
LEAST_APART = 1e-4
"""The relative difference of a probability that counts: smaller ones are rounding in the softmax."""


def row(variant: str, cpu: str, own: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    """Return the table's row for two sets of probabilities, float64[photos, classes] each."""
    same = int((own.argmax(1) == other.argmax(1)).sum())
    apart = np.abs(other / own - 1)
    share = (apart > LEAST_APART).mean()
    return ROW.format(variant, cpu, same, len(own), 100 * share, 100 * apart.max(), 100 * apart.mean())


def probabilities(service: Service, photos: Sequence[Path], classes: int, what: str) -> NDArray[np.float64]:
    """Return a service's probabilities for the photos: float64[photos, classes]."""
    found = np.empty((len(photos), classes))
    with service.client() as client:
        for number, photo in enumerate(tqdm(photos, desc=what, unit="photo")):
            answer = client.post(f"/v1/classify?top_k={classes}", content=photo.read_bytes())
            answer.raise_for_status()
            for likely in answer.json()["predictions"]:
                found[number, likely["index"]] = likely["probability"]
    return found


def compare(
    podman: Podman, image: str, photos: Sequence[Path], variants: Sequence[str], classes: int
) -> None:
    """Write a row for each variant and processor."""
    for variant in variants:
        settings: dict[str, object] = {"variant": variant, "request_timeout_seconds": PATIENCE}
        with serving(**settings) as service:
            own = probabilities(service, photos, classes, f"{variant}, x86-64")
        for cpu, shown in CPUS.items():
            with podman.serving(*as_cpu(podman.folder, cpu, shown), image, **settings) as container:
                other = probabilities(container, photos, classes, f"{variant}, {cpu}")
            sys.stdout.write(row(variant, cpu, own, other))
            sys.stdout.flush()


def photos_of(folder: Path, count: int) -> list[Path]:
    """Return `count` of a folder's photos, evenly spaced in the order of their paths."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = [path for path in files if sniff(path.read_bytes())]
    if not found:
        raise SystemExit(f"{folder} has no photos")
    chosen = np.linspace(0, len(found) - 1, min(count, len(found))).astype(int)
    return [found[index] for index in chosen]


def main() -> None:
    """Run the comparison of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.arm64", description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=50, help="number of photos (%(default)s)")
    parser.add_argument("--variants", default="ptq,qat,fp32", help="of the default bundle (%(default)s)")
    options = parser.parse_args()
    if not EMULATION.exists():
        raise SystemExit(f"arm64 can't be emulated here: {EMULATION} is missing (see .ci/run)")
    photos = photos_of(options.photos, options.count)
    classes = load_bundle(DEFAULT_BUNDLE).manifest.classes
    with tempfile.TemporaryDirectory() as folder:
        podman = Podman(Path(folder))
        try:
            podman.make_build_base()
            image = "localhost/edgewise:arm64"
            podman.build(image, "arm64", podman.make_run_base("arm64"))
            sys.stdout.write(HEAD)
            compare(podman, image, photos, options.variants.split(","), classes)
        finally:
            podman.close()


if __name__ == "__main__":
    main()
