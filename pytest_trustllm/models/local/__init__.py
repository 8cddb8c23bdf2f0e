"""Models that transformers runs in this process or beside it."""
