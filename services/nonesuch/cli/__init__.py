"""The command line, and the commands that need nothing but this package. Heavy imports stay inside the functions."""
