"""Many scores in, one number out."""
