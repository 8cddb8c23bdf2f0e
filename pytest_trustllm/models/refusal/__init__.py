"""Refusal classifiers that need no download."""
