"""What a run shows while it runs and leaves when it ends: bars, lines, records, pictures."""
