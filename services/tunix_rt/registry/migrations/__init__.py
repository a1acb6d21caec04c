"""Alembic migrations of the registry's database; `schema` runs them."""
