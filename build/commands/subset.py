"""`python -m build subset`: make a bundle from some variants of another."""

import argparse

from build.assembly.assemble import check_destination, refuse_other_classes
from build.commands.output import show
from build.errors import BuildError
from build.evidence.subset import write_subset
from service.bundle.folder import load_bundle, verify


def run(options: argparse.Namespace, _command: str) -> None:
    """Make a bundle from some variants of another.

    Raises:
        StartError: the command can't be carried out.
    """
    check_destination(options.out)
    source, out = options.source.resolve(), options.out.resolve()
    if source in (out, *out.parents):
        raise BuildError(
            f"{options.out} is inside {options.source}, which would lose its files; choose another folder"
        )
    bundle = load_bundle(options.source)
    verify(bundle)
    refuse_other_classes(options.out, bundle.classes)
    smaller = write_subset(bundle, options.variants, options.out)
    size = sum(file.stat().st_size for file in smaller.path.iterdir())
    show(f"{options.out}: {size / 1e6:.1f} MB; serve it with EDGEWISE_BUNDLE={options.out} make serve")
