"""The rule table: what a field may hold, and its default. Said once here; services, client and CLI read it.

Pure: no I/O and no service. Only `messages` imports protobuf.
"""
