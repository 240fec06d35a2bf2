"""What a bundle is worth on this device: evaluation, benchmark, profile, and the choice of `auto`."""
