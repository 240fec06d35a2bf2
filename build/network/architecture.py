"""The network that is built: its name, its input's side, and how much of a photo's shorter side it sees."""

ARCHITECTURE = "EfficientNetV2B0"
INPUT_SIZE = 224
CROP_FRACTION = 0.875
