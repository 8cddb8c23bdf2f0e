"""People label responses of a run, in the terminal or in a browser."""
