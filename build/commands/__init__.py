"""The commands of `python -m build`: one module per command, and what several of them share."""
