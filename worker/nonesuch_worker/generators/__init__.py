"""What generators are to the rest of the worker, a folder for each family, and the library that a user fills."""
