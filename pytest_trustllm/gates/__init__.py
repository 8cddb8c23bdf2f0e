"""Threshold files to gates, numbers to verdicts."""
