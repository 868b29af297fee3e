"""Health, readiness, metrics and the metric catalog."""
