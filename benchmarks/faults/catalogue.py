"""The faults of the benchmark.

FAULTS      the real ones, each with the public thread where it was seen
UNLISTED    ones that no list names: the right stage is all that a diagnosis can say
MORE        the rest of the diagnosis' vocabulary, a line each
THREADS     from public threads, written before the library of causes was looked at

apply(FAULTS[0], "torch", dataset="names", dose=0.05, into=folder)
"""

from benchmarks.faults.patching import SIDES, USER, Fault, Patch, PatchError, Side, apply
from benchmarks.faults.rows.losses import LOSSES
from benchmarks.faults.rows.models import MODELS
from benchmarks.faults.rows.more import MORE
from benchmarks.faults.rows.pairs import PAIRS
from benchmarks.faults.rows.pieces import PIECES
from benchmarks.faults.rows.streams import STREAMS
from benchmarks.faults.rows.threads import THREADS
from benchmarks.faults.rows.unlisted import UNLISTED
from benchmarks.faults.rows.updates import UPDATES

__all__ = ["FAULTS", "MORE", "SIDES", "THREADS", "UNLISTED", "USER", "Fault", "Patch", "PatchError", "Side", "apply"]

FAULTS: tuple[Fault, ...] = PAIRS + STREAMS + PIECES + MODELS + LOSSES + UPDATES
