"""Bearer tokens and their roles."""
