"""The minting form of a generator: the same images, made several times faster.

A generator is trained, converted and checked in the form that its authors gave it. To mint, it is rewritten once, when
it is loaded, into a network that computes the same function with less work:

    folding        spectral norm, divided into the weights
    convolutions   what is left of the layers
    packing        their weights in the order that a CPU computes in
    norms          every conditional batch normalisation as one multiply-add, all their linears as one product
    statistics     the statistics that belong to a truncation
    winograd       3×3 convolutions with fewer products
    upsampling     nearest-upsample + 3×3 convolution on the small image
    attention      products on the kernels that are fastest on the device
    pixels         the last convolution: only the channels that are looked at, and several pixels at once
    biggan         BigGAN-deep, made of these
    compact        our own family, made of these
    compiling      torch.compile and its cache, where they pay
    copy_out, micro_batches
                   how images leave the device, and how many are made at once

Nothing here is an approximation: what differs is the order of sums. Everything is differentiable in z.
"""
