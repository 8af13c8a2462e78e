"""The family `conditioned`: an unconditional generator that was given classes (`nonesuch condition`)."""
