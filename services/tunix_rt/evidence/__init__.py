"""Evidence: everything that a score rests on in one zip, and the check that it still does.

Pure but for `gathering` and `messages`, which read a platform through the client: documents in, bytes out, and back.
Knows no JAX and no server. What the check can see, and what nobody can see without a signature, is said in `verify`.
"""
