"""Requests in, as many responses out: one module per provider."""
