"""Evaluations, items, scorecards, leaderboard and comparison."""
