"""What needs both sides, or a run's history: which factor carries the gap, what rides on it, when it began."""

from lossary.diagnosis.experiments.divergence import DIVERGENCE
from lossary.diagnosis.experiments.gap import GAP
from lossary.diagnosis.experiments.pair import Experiment, Pair
from lossary.diagnosis.experiments.settings import SETTINGS
from lossary.diagnosis.experiments.swap import SWAP

__all__ = ["EXPERIMENTS", "Experiment", "Pair"]

EXPERIMENTS: tuple[Experiment, ...] = (SETTINGS, SWAP, GAP, DIVERGENCE)
