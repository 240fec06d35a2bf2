"""The load test: clients that behave like edge nodes and send labelled photos; see docs/loadtest.md."""
