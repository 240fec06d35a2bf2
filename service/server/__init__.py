"""The process that serves: its connections, certificate and signals."""
