"""Dataset versions: tables, rules, messages and the gRPC service."""
