"""The search for recipes that lose least: weight steps for a size, float blocks for a time."""
