"""The core: pixels → interpreter → probabilities, in worker threads, without any knowledge of HTTP."""
