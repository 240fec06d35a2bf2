"""Quantization: recipes, ranges, conversion, and what each part of the network loses."""
