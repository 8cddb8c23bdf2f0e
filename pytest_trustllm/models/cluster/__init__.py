"""Models whose replicas are actors on the nodes of a Ray cluster."""
