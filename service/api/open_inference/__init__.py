"""The Open Inference Protocol, version 2, with the extensions `binary_tensor_data` and `classification`."""
