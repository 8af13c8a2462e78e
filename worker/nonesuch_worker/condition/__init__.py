"""`nonesuch condition`: give an unconditional generator classes."""
