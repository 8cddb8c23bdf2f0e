"""JailbreakBench's behaviours (arXiv:2404.01318)."""
