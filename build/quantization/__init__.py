"""Quantization: recipes, ranges, conversion, and what each part loses."""
