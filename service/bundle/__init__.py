"""A bundle on disk: its manifest, what lies beside it, and its signature."""
