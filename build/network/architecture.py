"""The network: its name, its input's side in pixels, and the share of a photo's shorter side that it sees."""

ARCHITECTURE = "EfficientNetV2B0"
INPUT_SIZE = 224
CROP_FRACTION = 0.875
