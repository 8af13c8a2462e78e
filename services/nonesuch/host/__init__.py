"""This machine and this process: cores, memory, files, signals, a bar that shows how far something is."""
