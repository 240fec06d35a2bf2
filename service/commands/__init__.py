"""The commands other than `serve`: `check`, `evaluate`, `benchmark` and `profile`."""
