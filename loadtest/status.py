"""The exit statuses of load tests: all goals met, one missed, the test could not start, interrupted."""

HELD, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
