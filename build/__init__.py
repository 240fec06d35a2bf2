"""The build stage: turns weights and photos into a bundle of TFLite variants."""

import os

# For TensorFlow, whichever module loads it first. One operation at a time, each of them on all cores: where
# two of oneDNN's run at once, how they split their sums depends on what is free just then, and on a busy
# machine the same training would end with other weights.
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
