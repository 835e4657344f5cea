"""Random numbers as a function of (key, example, epoch, draw): Philox4x32-10, vectorised.

There is no state: the same example, epoch and key give the same numbers, whatever else is in the batch.

    key = stream_key(17, "masks", "wiki")
    uniforms(key, example, epoch, 128)        # (B, 128), in [0, 1)

Source: Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC'11).
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["bits", "philox4x32", "stream_key", "uniforms"]

_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
Key = int | NDArray[np.uint64]


def stream_key(seed: int, *words: str | int) -> int:
    """A 64-bit key for one purpose of one seed: blake2b of the seed and the words."""
    material = "\x1f".join([str(seed), *map(str, words)]).encode()
    return int.from_bytes(hashlib.blake2b(material, digest_size=8).digest(), "little")


def philox4x32(counter: NDArray[np.uint64], key: Key) -> NDArray[np.uint64]:
    """Ten rounds on counters (…, 4) of 32-bit words held in uint64; returns words of the same shape.

    The key is one for all, or an array that broadcasts against the counters' leading axes.
    """
    c0, c1, c2, c3 = (counter[..., word] for word in range(4))
    keys = np.asarray(key, np.uint64)
    k0, k1 = keys & _LOW, keys >> _SHIFT
    for _ in range(_ROUNDS):
        p0 = _MULTIPLIERS[0] * c0
        p1 = _MULTIPLIERS[1] * c2
        c0, c1 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _LOW
        c2, c3 = (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return np.stack((c0, c1, c2, c3), axis=-1)


def bits(key: Key, example: NDArray[np.uint64], epoch: NDArray[np.int64] | int, count: int) -> NDArray[np.uint32]:
    """Random 32-bit words (B, count) for examples (B,) in an epoch; key and epoch are numbers, or arrays (B,)."""
    example = np.asarray(example, np.uint64)
    blocks = -(-count // 4)
    counter = np.empty((len(example), blocks, 4), np.uint64)
    counter[..., 0] = (example & _LOW)[:, None]
    counter[..., 1] = (example >> _SHIFT)[:, None]
    counter[..., 2] = np.broadcast_to(np.asarray(epoch, np.uint64), example.shape)[:, None]
    counter[..., 3] = np.arange(blocks, dtype=np.uint64)
    keys = np.broadcast_to(np.asarray(key, np.uint64), example.shape)[:, None]
    words = philox4x32(counter, keys).astype(np.uint32)
    return words.reshape(len(example), blocks * 4)[:, :count]


def uniforms(key: Key, example: NDArray[np.uint64], epoch: NDArray[np.int64] | int, count: int) -> NDArray[np.float64]:
    """Uniform numbers (B, count) in [0, 1) with 32 random bits each; arguments as of `bits`."""
    return bits(key, example, epoch, count) * np.float64(2.0**-32)
