"""A permutation of 0 … N−1 that is computed index by index: an epoch's order without an array of length N.

A Feistel network permutes the smallest even number of bits that holds N−1; an image outside the range is permuted
again until it falls inside (cycle walking), which happens less than four times on average.

Source: Black, Rogaway: Ciphers with arbitrary finite domains (CT-RSA 2002).
"""

import numpy as np
from numpy.typing import NDArray

from lossary.data.philox import philox4x32

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
    counter = np.zeros((len(value), 4), np.uint64)
    counter[:, 2], counter[:, 3] = key & np.uint64(0xFFFFFFFF), key >> np.uint64(32)
    for turn in range(_ROUNDS):
        counter[:, 0], counter[:, 1] = right, np.uint64(turn)
        left, right = right, left ^ (philox4x32(counter, 0)[:, 0] & mask)
    return (left << half) | right
