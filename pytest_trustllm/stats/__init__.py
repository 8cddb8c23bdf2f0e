"""Pure mathematics: how far a counted number may lie from the true one."""
