"""Logs, metrics and traces, the same for every service. Knows nothing of what the services do."""
