"""Training: the loop, fine-tuning, new classes, quantization-aware training."""
