"""The registry: every durable fact of the platform. Never imports JAX and never runs a model."""
