"""Do canonical weights arrive in the side's model, and survive its own checkpoint?"""

from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.laws.loading import identify_loading
from lossary.diagnosis.subject import Subject
from lossary.models.parameters import Parameters

__all__ = ["CHECKPOINT", "WEIGHTS"]


def _probes(subject: Subject) -> list[Parameters]:
    return [subject.probes.plain, subject.probes.low_variance]


def _run_weights(subject: Subject) -> Told:
    given = _probes(subject)
    fit = identify_loading(given, [subject.session.ask("weights", weights=one) for one in given])
    return Told(fit=fit, measured=_measured(fit.equal, "loading", len(given[0])))


def _run_checkpoint(subject: Subject) -> Told:
    given = _probes(subject)
    returned = [subject.session.ask("roundtrip", weights=one) for one in given]
    fit = identify_loading(given, returned, precision=subject.precision)
    return Told(fit=fit, measured=_measured(fit.equal, "saving and loading", len(given[0])))


def _measured(equal: bool, what: str, count: int) -> str:
    return f"after {what}, {'all' if equal else 'not all'} of {count} tensors are the ones that were given"


WEIGHTS = Check(
    name="weights",
    stage="weights",
    about="Weights given to the side are read back, tensor by tensor, for two sets of weights.",
    needs=("load", "weights"),
    run=_run_weights,
)
CHECKPOINT = Check(
    name="checkpoint",
    stage="weights",
    about="Weights are saved and loaded by the side's own code and read back.",
    needs=("load", "roundtrip"),
    run=_run_checkpoint,
)
