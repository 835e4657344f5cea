"""The processes of `torchrun` and accelerate as ranks that score together, over gloo, whatever they train over."""

from functools import lru_cache
from typing import Any

import torch
from torch import distributed

from lossary.backends.ranks import Said, Word

__all__ = ["TorchRanks", "is_launched"]


def is_launched() -> bool:
    """Whether this process is one of several that `torch.distributed` knows."""
    return bool(distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)


class TorchRanks:
    """See `lossary.backends.ranks.Ranks`."""

    def __init__(self) -> None:
        self.rank: int = distributed.get_rank()
        self.size: int = distributed.get_world_size()
        self._group = _group(id(distributed.group.WORLD))

    def exchange(self, word: Word, payload: bytes = b"") -> list[Said]:
        """What every rank says; payloads come to rank 0, a tensor of the longest one's size from each."""
        told = torch.tensor([int(word), len(payload)])
        heard = [torch.zeros_like(told) for _ in range(self.size)]
        distributed.all_gather(heard, told, group=self._group)
        words, sizes = zip(*(item.tolist() for item in heard), strict=True)
        longest = max(sizes)
        payloads = [b""] * self.size
        if longest:
            padded = torch.zeros(longest, dtype=torch.uint8)
            padded[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8) if payload else 0
            parts = [torch.zeros_like(padded) for _ in range(self.size)] if self.rank == 0 else None
            distributed.gather(padded, parts, dst=0, group=self._group)
            if parts is not None:
                payloads = [part[:size].numpy().tobytes() for part, size in zip(parts, sizes, strict=True)]
        return [Said(Word(word), payload) for word, payload in zip(words, payloads, strict=True)]


@lru_cache(maxsize=1)
def _group(_: int) -> Any:
    """One group for the life of the launch: tensors on the CPU, also beside NCCL."""
    return distributed.new_group(backend="gloo")
