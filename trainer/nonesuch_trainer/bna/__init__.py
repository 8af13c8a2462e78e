"""Batch norm adaptation (BNA): a classifier's statistics anew, of unlabelled real images (Besnier et al. 2019, 3.3)."""
