"""The highest rate at which a service meets its goals, for each variant: `python -m loadtest capacity`."""
