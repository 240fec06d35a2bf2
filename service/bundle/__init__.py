"""A bundle on disk: its manifest, its other files, and its signature."""
