"""The log of facts as a gRPC service."""
