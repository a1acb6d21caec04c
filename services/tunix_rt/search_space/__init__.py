"""Search spaces: what may be tuned, what can be wrong with a sweep's spec, and its defaults. For registry and tuner.

Pure: knows no database, no network, no Ray and no JAX, and draws nothing. Only `messages`, `defaults`, `settings` and
`population` know protobuf.
"""
