"""Claims about quality, as commands that measure them: seeds, intervals, and controls at equal compute."""
