"""What several tests need: fakes, tiny generators, whole services. Imported as `tests.helpers`."""
