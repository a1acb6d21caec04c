"""Search spaces: the parameters of sweeps, the checks of their specs, and their defaults. For registry and tuner.

Pure: knows no database, no network, no Ray and no JAX, and draws nothing. Only `messages`, `defaults`, `settings` and
`population` know protobuf.
"""
