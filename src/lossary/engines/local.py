"""Processes of this machine."""

import os
from contextlib import AbstractContextManager
from typing import Any

from lossary.backends.process import Emit, StopRequest, WarmWorkers, run_worker
from lossary.backends.rank_workers import run_ranks
from lossary.data.prepare import LocalTokenisers, Tokenisers
from lossary.data.tokenizer import StudyTokenizer
from lossary.engines.api import Cores, Work

__all__ = ["LocalEngine", "share_cores"]

_CORES_A_RUN = 8


def share_cores(runs: int, jobs: int | None) -> Cores:
    """At most `jobs` runs at once; as many as have enough cores if None."""
    cores = os.cpu_count() or 1
    at_once = min(runs, jobs or max(1, cores // _CORES_A_RUN)) or 1
    return Cores(at_once, max(1, cores // at_once))


class LocalEngine:
    """See `lossary.engines.api.Engine`."""

    is_local = True

    def share(self, runs: int, jobs: int | None) -> Cores:
        return share_cores(runs, jobs)

    def run(
        self, work: Work, *, threads: int, emit: Emit, stop: StopRequest, warm: WarmWorkers | None = None
    ) -> dict[str, Any]:
        ranks, log = work.needs.ranks, work.log
        if ranks > 1:
            each = max(1, threads // ranks)
            return run_ranks(work.module, work.request, ranks=ranks, threads=each, log=log, emit=emit, stop=stop)
        return run_worker(
            work.module, work.request, backend=work.backend, threads=threads, log=log, emit=emit, stop=stop, warm=warm
        )

    def tokenisers(self, count: int, model: StudyTokenizer) -> AbstractContextManager[Tokenisers]:
        return LocalTokenisers(count, model)
