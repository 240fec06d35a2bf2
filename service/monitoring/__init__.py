"""What the service says of itself: metrics for Prometheus and lines for the log."""
