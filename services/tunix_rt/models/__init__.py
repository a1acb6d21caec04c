"""Language models in JAX: configuration, decoder, cached decoding, tokenizer, loading and export.

Used by the trainer and the inferencer only.
"""
