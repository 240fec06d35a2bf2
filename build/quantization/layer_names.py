"""Which layer of the network an operator of a converted file is."""


def layer_of(output: bytes) -> str:
    """The layer by the name of its operator's output, or nothing where that names none.

    Names that the converter merged stand one after another; the first is network/layer/operation, or
    network/network/layer/operation where the network is within another that takes pixels.
    """
    network, *path = output.decode().split("/")
    return next((part for part in path if part != network), "")
