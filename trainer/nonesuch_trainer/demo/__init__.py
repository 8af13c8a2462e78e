"""The main job on the embedded default: what can be learned from images that do not exist."""
