"""The `tunix-rt` command. Everything heavy (gRPC, pydantic, tables) is imported by the command that needs it."""
