"""The network that is built: its name, and the side of its input."""

ARCHITECTURE = "EfficientNetV2B0"
INPUT_SIZE = 224
