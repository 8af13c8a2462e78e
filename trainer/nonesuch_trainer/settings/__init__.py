"""What a run is: frozen models, read from TOML. Every other room takes the part of them that it needs."""
