"""The server process: its connections, certificate and signals."""
