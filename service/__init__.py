"""The inference service: serves a bundle over HTTP, with no TensorFlow."""

VERSION = "0.1.0"
