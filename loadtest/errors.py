"""Errors that keep a load test from starting, or from going on."""


class LoadTestError(Exception):
    """The load test can't start, or can't go on; `str(error)` is one line for the user."""


class ServiceEnded(LoadTestError):
    """The service that a load test started exited before the test ended."""
