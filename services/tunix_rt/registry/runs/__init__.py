"""Training runs: tables, rules, messages and the gRPC service."""
