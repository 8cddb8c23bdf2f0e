"""Everything after the run: numbers from records, the results file, and comparisons of runs."""
