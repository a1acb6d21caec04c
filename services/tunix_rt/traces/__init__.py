"""Reasoning traces: their schema, how they are rendered for training, and the datasets built of them."""
