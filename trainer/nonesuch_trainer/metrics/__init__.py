"""What judges generators: by what can be learned from their images, and by their distance from real ones."""
