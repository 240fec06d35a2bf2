"""The HTTP routes, and nothing but HTTP."""
