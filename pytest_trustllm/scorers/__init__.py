"""Responses in, one score out: one module per rule for reading them."""
