"""How resources look in a terminal, one module per kind."""
