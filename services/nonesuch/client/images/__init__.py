"""Labelled images as the client gives them: arrays, tensors, files, pictures."""
