"""The load test: clients as edge nodes have them, with labelled photos; see docs/loadtest.md."""
