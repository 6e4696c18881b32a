"""Whatever a file holds, a reader gives a sound result or one readable error."""
