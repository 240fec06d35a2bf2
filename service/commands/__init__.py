"""The commands that do not serve: `check`, `evaluate` and `benchmark`."""
