"""The rule table: what a field may hold, and its default. Services, client and CLI read it here; and the names and JSON
form of the contracts' messages.

Pure: no I/O and no service. Only `messages` and `documents` import protobuf.
"""
