"""The resources: one file for each, and `deps` with every dependency of FastAPI."""
