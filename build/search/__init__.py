"""The search for recipes that lose least: weights' steps for a size, blocks in float for a time."""
