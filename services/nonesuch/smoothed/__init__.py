"""Dataset smoothing (Besnier et al. 2019, Alg. 2): a resident dataset, part of which is minted anew after every epoch.

For the trainer's loop and for `SmoothedDataset` alike: `settings` and `orders` say what is wanted, `supply` and
`intake` get it, `resident` keeps it. `settings` and `orders` take no torch.
"""
