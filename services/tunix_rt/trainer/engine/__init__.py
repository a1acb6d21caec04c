"""Supervised fine-tuning of a decoder on reasoning traces: data, loss, step, checkpoints, loop.

Runs inside the training process. Knows nothing of leases, queues, gRPC or protobuf.
"""
