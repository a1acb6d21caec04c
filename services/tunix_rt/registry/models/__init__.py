"""Model versions, aliases and promotions."""
