"""Engines: slots in, tokens out. `interface` is the protocol, `jax_engine` the implementation."""
