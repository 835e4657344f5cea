"""The checks of a diagnosis, one a file, cheapest first; later ones build on what earlier ones have identified."""

from lossary.diagnosis.checks.dropout import DROPOUT
from lossary.diagnosis.checks.dynamics import DYNAMICS
from lossary.diagnosis.checks.evaluation import EVALUATION
from lossary.diagnosis.checks.examples import EXAMPLES
from lossary.diagnosis.checks.forward import FORWARD
from lossary.diagnosis.checks.gradients import GRADIENTS, REPORTED
from lossary.diagnosis.checks.initial import INITIAL
from lossary.diagnosis.checks.loss import LOSS
from lossary.diagnosis.checks.resume import RESUME
from lossary.diagnosis.checks.schedule import SCHEDULE
from lossary.diagnosis.checks.stream import STREAM
from lossary.diagnosis.checks.tokenizer import TOKENIZER
from lossary.diagnosis.checks.training import TRAINING
from lossary.diagnosis.checks.update import UPDATE
from lossary.diagnosis.checks.validation import VALIDATION
from lossary.diagnosis.checks.weights import CHECKPOINT, WEIGHTS
from lossary.diagnosis.engine import Check

__all__ = ["CHECKS"]

CHECKS: tuple[Check, ...] = (
    SCHEDULE,
    TOKENIZER,
    WEIGHTS,
    CHECKPOINT,
    INITIAL,
    EXAMPLES,
    STREAM,
    VALIDATION,
    DROPOUT,
    FORWARD,
    LOSS,
    GRADIENTS,
    REPORTED,
    UPDATE,
    RESUME,
    TRAINING,
    EVALUATION,
    DYNAMICS,
)
