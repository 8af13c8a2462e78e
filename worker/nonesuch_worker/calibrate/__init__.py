"""`nonesuch calibrate`: how far to mine."""
