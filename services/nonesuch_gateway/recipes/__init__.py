"""The way from a request to an order that can be filled, and to the recipe by which the same bytes can be had again."""
