"""Tensors by name, and the files that hold them (safetensors): what is there, whether it fits, whether it is finite."""
