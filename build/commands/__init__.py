"""The commands of `python -m build`: one module each, and what several of them share."""
