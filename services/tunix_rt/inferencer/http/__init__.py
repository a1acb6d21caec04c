"""The inferencer's OpenAI-compatible HTTP API. It shares pools and schedulers with gRPC."""
