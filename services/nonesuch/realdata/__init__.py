"""Real images, labelled and not, from wherever they lie. Nothing is ever fetched. numpy, and Pillow to decode."""
