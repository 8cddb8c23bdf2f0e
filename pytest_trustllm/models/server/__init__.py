"""Models served by engines such as vLLM, which a run starts and ends."""
