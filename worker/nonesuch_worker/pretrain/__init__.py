"""`nonesuch pretrain`: train a generator of the family `compact`."""
