"""gRPC at the edge: starting servers, opening channels, who may call what, and how errors cross."""
