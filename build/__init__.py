"""The build stage: turns weights and photos into a bundle of TFLite variants."""

import os

# Set here so that it holds whichever module loads TensorFlow first. TensorFlow then runs one operation at a
# time, on all cores: if two oneDNN operations ran at once, how they split their sums would depend on which
# cores are free, and on a busy machine the same training would end with different weights.
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
