"""The commands that do not serve: `check`, `evaluate`, `benchmark` and `profile`."""
