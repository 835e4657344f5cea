"""Processes that `torch.distributed` knows as ranks: those of `torchrun`, of accelerate, and lossary's own.

What they say to each other goes over gloo, whatever gradients go over.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from lossary.backends.ranks import Ranks, Said, Word
from lossary.errors import RankLost, RunError

__all__ = ["TorchRanks", "device_of_rank", "is_launched", "join"]

# Others wait while the first rank stores a checkpoint or makes a view; one that is gone is noticed at once.
_PATIENCE = timedelta(days=1)
# Numbers that are added up at a time: 64 MB of single precision.
_AT_ONCE = 1 << 24


def is_launched() -> bool:
    """Whether this process is one of several that `torch.distributed` knows."""
    return bool(distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)


def join(rank: int, size: int, store: str) -> "TorchRanks":
    """Makes this process rank `rank` of `size`; they meet at `store`, or as `torchrun` tells if it is "".

    `store` is file://PATH or, for ranks of several machines, tcp://HOST:PORT of the first one.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if store:
        where: dict[str, Any] = {"init_method": store, "rank": rank, "world_size": size}
    else:
        where = {"init_method": "env://"}
    try:
        distributed.init_process_group(backend, timeout=_PATIENCE, **where)
    except (RuntimeError, ValueError) as error:
        raise RunError(f"rank {rank} of {size} cannot reach the others: {str(error).splitlines()[0]}") from None
    return TorchRanks()


def device_of_rank(asked: str | None, ranks: Ranks) -> str | None:
    """The device of a rank: its own GPU where there are any, else what is asked for. RunError if there are too few."""
    if asked not in (None, "cuda") or not torch.cuda.is_available():
        return asked
    local = int(os.environ.get("LOCAL_RANK", ranks.rank))
    size, devices = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.size)), torch.cuda.device_count()
    if size > devices:
        raise RunError(
            f"{size} ranks have {devices} GPUs on this machine, and each takes one",
            hint='Ask for fewer, or write device = "cpu".',
        )
    return f"cuda:{local}"


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
        with _with_others():
            distributed.all_gather(heard, told, group=self._group)
        words, sizes = zip(*(item.tolist() for item in heard), strict=True)
        longest = max(sizes)
        payloads = [b""] * self.size
        if longest:
            padded = torch.zeros(longest, dtype=torch.uint8)
            padded[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8) if payload else 0
            parts = [torch.zeros_like(padded) for _ in range(self.size)] if self.rank == 0 else None
            with _with_others():
                distributed.gather(padded, parts, dst=0, group=self._group)
            if parts is not None:
                payloads = [part[:size].numpy().tobytes() for part, size in zip(parts, sizes, strict=True)]
        return [Said(Word(word), payload) for word, payload in zip(words, payloads, strict=True)]

    def add(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum over ranks, on all of them."""
        total = torch.tensor(values, dtype=torch.float64)
        with _with_others():
            distributed.all_reduce(total, group=self._group)
        summed: NDArray[np.float64] = total.numpy()
        return summed

    def add_tensors(self, tensors: list[torch.Tensor]) -> None:
        """Sums tensors of one device and type over ranks, in place; some of them at a time, as one."""
        some: list[torch.Tensor] = []
        for number, tensor in enumerate(tensors):
            some.append(tensor)
            if number + 1 == len(tensors) or sum(map(torch.numel, some)) >= _AT_ONCE:
                together = torch.cat([part.reshape(-1) for part in some])
                with _with_others():
                    distributed.all_reduce(together)
                sums = together.split([part.numel() for part in some])
                torch._foreach_copy_(some, [total.view_as(part) for total, part in zip(sums, some, strict=True)])
                some = []


@contextmanager
def _with_others() -> Iterator[None]:
    """Around what all ranks do together: RankLost where one of them is gone, which may be known here first."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise RankLost(f"another rank is gone: {str(error).splitlines()[0]}") from None


@lru_cache(maxsize=1)
def _group(_: int) -> Any:
    """One group for the life of the launch: tensors on the CPU, also beside NCCL."""
    return distributed.new_group(backend="gloo", timeout=_PATIENCE)
