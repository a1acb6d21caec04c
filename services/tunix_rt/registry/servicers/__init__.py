"""gRPC adapters, one module per service: decode, run one unit of work, encode. No rule lives here."""
