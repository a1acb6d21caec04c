"""Gate policies, decisions and baselines."""
