"""Optimizers besides Optax's AdamW, as transformations of gradients. Weight decay and learning rate come after them."""
