"""Rows as protobuf messages: for answers of servicers and for the facts in the outbox. No session, no decisions."""
