"""Results to a page for the browser and to lines for the terminal."""
