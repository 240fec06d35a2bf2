"""What keeps a load test from beginning, or from going on."""


class LoadTestError(Exception):
    """The load test can't begin, or go on; `str(error)` is one line for a person."""


class ServiceEnded(LoadTestError):
    """The service that a load test started ended before the test did."""
