"""The family `analytic`: generators in closed form, whose perfect classifier is known."""
