"""`python -m build sign`: sign a bundle."""

import argparse

from build.commands.output import show
from build.signing import sign_bundle


def run(options: argparse.Namespace, _command: str) -> None:
    """Sign a bundle.

    Raises:
        StartError: the command can't be carried out.
    """
    signature = sign_bundle(options.bundle, options.key)
    show(f"{signature}: serve the bundle with the public key as EDGEWISE_BUNDLE_PUBLIC_KEY")
