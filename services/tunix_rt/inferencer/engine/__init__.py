"""Engines: slots in, tokens out. `interface` is the vocabulary, `jax_engine` the real one, `arithmetic` a fake."""
