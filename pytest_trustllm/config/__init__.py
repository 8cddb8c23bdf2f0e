"""Reading YAML and JSON: documents with places, field shapes, templates, paths."""
