"""Suites of open test sets, without their data."""
