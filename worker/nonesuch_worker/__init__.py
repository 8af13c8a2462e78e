"""The workers: generators, strategies, and the loop that turns tickets into batches."""
