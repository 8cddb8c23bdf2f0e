"""TrustLLM as a pytest suite."""
