"""XSTest (arXiv:2308.01263)."""
