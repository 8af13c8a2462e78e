"""From an accepted order to bytes on the wire."""
