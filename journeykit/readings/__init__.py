"""Sentences and findings computed from tables, so that no text states a number by hand."""
