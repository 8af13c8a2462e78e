"""The way from an accepted order to bytes on the wire."""
