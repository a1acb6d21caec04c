"""Search spaces: the parameters of sweeps, the checks of their specs, and their defaults. For registry and tuner.

Pure. Only `messages`, `defaults`, `settings` and `population` use protobuf.
"""
