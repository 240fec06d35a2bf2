"""The core: pixels → interpreter → probabilities, in worker threads; knows nothing of HTTP."""
