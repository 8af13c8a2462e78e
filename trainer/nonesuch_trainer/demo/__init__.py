"""The demo: what can be learned from images that do not exist, with a packaged generator on one machine."""
