"""Resources in a terminal, one module per kind."""
