"""Everything next to a model: prompts answered, judged, scored and stored."""
