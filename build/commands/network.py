"""The network that a command's options name."""

import argparse
from dataclasses import replace

from build.files import in_utf8
from build.network.weights import Network, load_network


def network_of(options: argparse.Namespace) -> Network:
    """Load the network that `--weights` and its related options name, with `--licence` if that is given."""
    network = load_network(
        options.weights, labels=options.labels, class_ids=options.class_ids, size=options.size
    )
    licence = vars(options).get("licence")
    return network if licence is None else replace(network, licence=in_utf8(licence))
