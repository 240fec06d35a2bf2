"""Which layer of the network an operator of a converted file is."""


def layer_of(output: bytes) -> str:
    """The layer by the name of its operator's output, or nothing where that names none.

    Names that the converter merged stand one after another; the first is network/layer/operation.
    """
    _, layer, *_ = f"{output.decode()}//".split("/")
    return layer
