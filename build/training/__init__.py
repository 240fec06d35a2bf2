"""Training: the loop, fine-tuning, one's own classes, quantization-aware training."""
