"""gRPC at the edge: servers, channels, authorization, and error mapping."""
