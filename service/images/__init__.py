"""Image bytes → the pixels that a model sees, without any knowledge of models."""
