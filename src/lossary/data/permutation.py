"""A permutation of 0 … N−1 that is computed index by index: an epoch's order without an array of length N.

A Feistel network permutes the smallest even number of bits that holds N−1; an image outside the range is permuted
again until it falls inside (cycle walking), which happens less than four times on average.

Sources: Black, Rogaway: Ciphers with arbitrary finite domains (CT-RSA 2002); Steele, Lea, Flood: Fast splittable
pseudorandom number generators (OOPSLA 2014).
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["permute"]

_ROUNDS = 6


def permute(index: NDArray[np.int64], *, size: NDArray[np.int64] | int, key: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Images (n,) of indices (n,) in [0, size) under the permutation that a key names; one size and key for each.

    Sizes up to 2^62. Equal keys and sizes mean the same permutation.
    """
    index = np.asarray(index, np.int64)
    size = np.broadcast_to(np.asarray(size, np.int64), index.shape)
    half_bits = np.array([max(1, (int(n - 1).bit_length() + 1) // 2) for n in np.unique(size)], np.uint64)
    half = half_bits[np.unique(size, return_inverse=True)[1]]
    image = index.astype(np.uint64)
    outside = np.ones(len(index), bool)
    while outside.any():
        image[outside] = _feistel(image[outside], half[outside], key[outside])
        outside = image >= size.astype(np.uint64)
    return image.astype(np.int64)


def _feistel(value: NDArray[np.uint64], half: NDArray[np.uint64], key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = value >> half, value & mask
    for turn in range(_ROUNDS):
        left, right = right, left ^ (_splitmix(key, (right << np.uint64(3)) | np.uint64(turn)) & mask)
    return (left << half) | right


def _splitmix(key: NDArray[np.uint64], index: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Number `index` of the SplitMix64 stream that starts at `key`: a round needs speed, not Philox' long period."""
    word: NDArray[np.uint64] = key + (index + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
