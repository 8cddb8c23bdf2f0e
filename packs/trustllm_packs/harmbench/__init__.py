"""HarmBench (arXiv:2402.04249)."""
