"""Dead letters as a gRPC service."""
