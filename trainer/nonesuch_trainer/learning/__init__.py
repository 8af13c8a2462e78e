"""One epoch of learning, what it starts from, how it is judged and saved."""
