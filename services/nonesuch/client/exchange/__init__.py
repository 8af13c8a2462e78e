"""Requests and answers: what a call wants of the network, how it is tried again, and how an answer is read."""
