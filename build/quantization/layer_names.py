"""Which layer of the network an operator of a converted file belongs to."""


def layer_of(output: bytes) -> str:
    """Return the layer that the name of its operator's output contains, or "" if it contains none.

    If the converter merged operators, it joins their names; the first is network/layer/operation, or
    network/network/layer/operation if the network is nested in another that takes pixels.
    """
    network, *path = output.decode().split("/")
    return next((part for part in path if part != network), "")
