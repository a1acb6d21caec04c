"""The trainer service: carries out attempts of training runs, one at a time, each in a child process.

Owns nothing durable but checkpoints in the artifact store; every other fact goes to the registry by gRPC.
"""
