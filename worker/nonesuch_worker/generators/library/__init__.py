"""`nonesuch generators`: what generators there are, whether they are whole, and how another one is added."""
