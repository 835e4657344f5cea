"""What needs both sides, or a run's history: which factor carries the gap, what rides on it, when it
began; and a page that reports other numbers."""

from lossary.diagnosis.experiments.divergence import DIVERGENCE
from lossary.diagnosis.experiments.gap import GAP
from lossary.diagnosis.experiments.pair import Experiment, Pair
from lossary.diagnosis.experiments.reported import REPORTED_NUMBERS
from lossary.diagnosis.experiments.settings import SETTINGS
from lossary.diagnosis.experiments.swap import SWAP

__all__ = ["EXPERIMENTS", "Experiment", "Pair"]

EXPERIMENTS: tuple[Experiment, ...] = (SETTINGS, SWAP, GAP, REPORTED_NUMBERS, DIVERGENCE)
