"""Supervised fine-tuning of a decoder on reasoning traces: data, loss, step, loop, checkpoints.

Runs in the training process. `training` is the place to start reading.
"""
