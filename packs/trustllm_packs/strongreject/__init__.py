"""StrongREJECT (arXiv:2402.10260)."""
