"""OR-Bench, hard subset (arXiv:2405.20947)."""
