"""Experiments: who is in them, whether they can be trusted, what they did, and what to decide."""
