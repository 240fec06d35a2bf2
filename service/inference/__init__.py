"""The core: bytes in, class probabilities out; knows nothing of HTTP."""
