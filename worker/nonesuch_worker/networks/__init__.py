"""The networks of our own generators, as they are trained: no loading, no minting form (`engine`)."""
