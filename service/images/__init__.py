"""Image bytes → the pixels that a model sees; knows nothing of models."""
