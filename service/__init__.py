"""The inference service: serves a bundle over HTTP, with no TensorFlow."""
