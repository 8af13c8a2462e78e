"""Latents that depend on an order's seed and a sample's index, and on nothing else.

The random numbers are counter-based: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3",
SC'11) maps a counter and a key to four random words, without any state. Index i of an order reads the counters

    word 0   block: 0, 1, 2, ... as many as the sample needs
    word 1   index, low 32 bits
    word 2   index, high 32 bits
    word 3   stream: what the numbers are for

under the key (seed, low 32 bits; seed, high 32 bits). So a sample is the same in any batch, on any worker, after any
crash, and whichever other indices are asked for with it.

Shapes: B samples, n numbers a sample, Z = z_dim.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from nonesuch.errors import InvalidValue

LATENT = 0
"""Stream of a sample's own latent."""
MIXTURE = 1
"""Stream of the choice between several generators."""
ANALYTIC = 2
"""Stream of the analytic generator's class means (they are its parameters: index k is class k)."""
ATTEMPTS = 1 << 16
"""Streams of further latents of the same index: attempt a > 0 (a candidate, a retry) reads `ATTEMPTS + a`."""

TRUNCATION_BOUND = 2.0
"""The bound at which `truncation` cuts the standard normal, before it scales it."""

_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFF_FFFF
_LOW, _SHIFT = np.uint64(_WORD), np.uint64(32)  # of a 64-bit product


def philox(counter: NDArray[np.uint32], seed: int) -> NDArray[np.uint32]:
    """Philox4x32-10 of many counters under one key.

    Args:
        counter: (..., 4) uint32.
        seed: the 64-bit key: its low word is key word 0.

    Returns:
        (..., 4) uint32 random words.

    Raises:
        InvalidValue: the seed is not a 64-bit unsigned integer.
    """
    if not 0 <= seed < 1 << 64:
        raise InvalidValue(f"seed {seed} must be in [0, 2^64): it is a 64-bit key", field="seed")
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    for r in range(_ROUNDS):
        k0 = np.uint64(((seed & _WORD) + r * _WEYL[0]) & _WORD)
        k1 = np.uint64(((seed >> 32) + r * _WEYL[1]) & _WORD)
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = (product1 >> _SHIFT) ^ c1 ^ k0, product1 & _LOW
        c2, c3 = (product0 >> _SHIFT) ^ c3 ^ k1, product0 & _LOW
    return np.stack((c0, c1, c2, c3), axis=-1).astype(np.uint32)


def uniforms(seed: int, indices: NDArray[np.int64], n: int, stream: int = LATENT) -> NDArray[np.float64]:
    """n uniform numbers for each index, in the open interval (0, 1).

    Each takes 52 bits of two words and lies in the middle of its cell: (k + 1/2) / 2^52. That is a 53-bit float64,
    exactly symmetric about 1/2, and neither end can come up.

    Args:
        seed: the order's seed, 64 bits.
        indices: (B,) int64, not negative.
        n: how many numbers each index gets. Number j of an index is the same for every n > j.
        stream: what they are for, 32 bits (the constants of this module).

    Returns:
        (B, n) float64.
    """
    blocks = -(-n // 2)  # a block of four words makes two numbers
    counter = np.empty((len(indices), blocks, 4), dtype=np.uint32)
    counter[..., 0] = np.arange(blocks)
    counter[..., 1] = (indices & _WORD)[:, None]
    counter[..., 2] = (indices >> 32)[:, None]
    counter[..., 3] = stream
    words = philox(counter, seed).reshape(len(indices), 2 * blocks, 2)[:, :n].astype(np.uint64)  # (B, n, 2)
    cells = (words[..., 0] << np.uint64(20)) | (words[..., 1] >> np.uint64(12))  # (B, n) 52 bits
    return (cells.astype(np.float64) + 0.5) * 2.0**-52


def latents(
    seed: int,
    indices: NDArray[np.int64],
    z_dim: int,
    sigma: float = 1.0,
    truncation: float | None = None,
    stream: int = LATENT,
) -> NDArray[np.float32]:
    """The latents of some indices: the inverse normal distribution function of `uniforms`, in float64.

    Without truncation z = σ·N(0, I). With truncation t, z = t·N(0, I) restricted to [-2, 2] before scaling, as
    `truncated_noise_sample` of pytorch-pretrained-biggan defines it. (Elsewhere "truncation" may mean the restriction
    of N(0, I) to [-t, t]; in Nonesuch it never does.)

    Args:
        seed: the order's seed, 64 bits.
        indices: (B,) int64, not negative.
        z_dim: Z, numbers a latent.
        sigma: σ > 0.
        truncation: t > 0, or None.
        stream: `LATENT`, or `ATTEMPTS + a` for another latent of the same index.

    Returns:
        (B, Z) float32.

    Raises:
        InvalidValue: sigma or truncation is not positive, or both are given.
    """
    if sigma <= 0 or (truncation is not None and truncation <= 0):
        raise InvalidValue(f"sigma {sigma} and truncation {truncation} must be positive")
    if truncation is not None and sigma != 1.0:
        raise InvalidValue(f"truncation {truncation} and sigma {sigma} exclude each other: give one of them")
    u = torch.from_numpy(uniforms(seed, indices, z_dim, stream))  # (B, Z)
    scale = sigma
    if truncation is not None:
        tail = torch.special.ndtr(torch.tensor(-TRUNCATION_BOUND, dtype=torch.float64))
        u, scale = tail + u * (1 - 2 * tail), truncation
    z: NDArray[np.float32] = (scale * torch.special.ndtri(u)).to(torch.float32).numpy()
    return z
