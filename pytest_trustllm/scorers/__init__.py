"""Responses in, one score out: one module per way of reading."""
