"""Measurements of a bundle on this device: evaluation, benchmark, profile, and the choice of `auto`."""
