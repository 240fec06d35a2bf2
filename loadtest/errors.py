"""What keeps a load test from beginning."""


class LoadTestError(Exception):
    """The load test can't begin; `str(error)` is one line for a person."""
