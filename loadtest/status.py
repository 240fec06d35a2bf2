"""The exit statuses of load tests: all goals held, one missed, the test could not begin, interrupted."""

HELD, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
