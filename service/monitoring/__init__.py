"""What the service reports about itself: metrics for Prometheus and log lines."""
