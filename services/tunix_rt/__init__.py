"""Tunix-RT: train, serve, evaluate, rank, gate and tune reasoning models."""

__version__ = "0.1.0"
