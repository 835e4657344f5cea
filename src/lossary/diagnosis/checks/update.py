"""Which update law does the side's optimizer follow, given gradients?"""

from collections.abc import Sequence

from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.fit import Fit
from lossary.diagnosis.laws.update_evidence import UpdateObservation
from lossary.diagnosis.laws.update_probe import probe_gradients, probe_weights
from lossary.diagnosis.laws.updates import identify_update
from lossary.diagnosis.session import NotCompared
from lossary.diagnosis.subject import Subject
from lossary.models.update_laws import UpdateLaw, learning_rate

__all__ = ["UPDATE"]

_STEPS, _REPLICAS = 5, 2


def _run(subject: Subject) -> Told:
    if subject.probes.is_large:
        raise NotCompared("the model is too large for this fit; a law shows at a small size, too (--like)")
    recipe, first = subject.setup.recipe, subject.first_update
    weights = probe_weights(subject.probes.plain, seed=subject.setup.seed)
    bound = recipe.optimizer.clip_norm or 1.0
    gradients = probe_gradients(weights, seed=subject.setup.seed, steps=_STEPS, replicas=_REPLICAS, bound=bound)
    after = subject.session.ask("updates", weights=weights, gradients=gradients, first=first)
    seen = UpdateObservation(start=weights, gradients=gradients, weights=after, first=first)

    def identified(rates: Sequence[float]) -> Fit:
        return identify_update(seen, UpdateLaw.of(recipe.optimizer), rates=rates, declared=subject.declared)

    fit = identified([learning_rate(first + step, recipe.optimizer, recipe.steps) for step in range(_STEPS)])
    own = subject.known.get("rates", [])[first : first + _STEPS]
    if not fit.equal and len(own) == _STEPS and all(rate > 0 for rate in own):
        under = identified(own)
        fit = under if under.equal or (under.confirmed and _simpler(under, fit)) else fit
    subject.known["update equal"] = fit.equal
    return Told(
        fit=fit,
        measured=f"{_STEPS} updates from given gradients of {_REPLICAS} replicas differ from "
        f"{recipe.optimizer.name} in float64 by {fit.distance:,.3g} × the tolerance",
    )


def _simpler(one: Fit, other: Fit) -> bool:
    """Whether a fit needs fewer faults than another, or does without one of the rate."""
    if not other.confirmed or one.best is None or other.best is None:
        return True
    return len(one.best.names) < len(other.best.names) or "learning-rate-scaled" in other.best.names


UPDATE = Check(
    name="update",
    stage="update",
    about="Updates from given gradients of two replicas, against the declared law; a space of laws is searched.",
    needs=("load", "weights", "restart", "update"),
    run=_run,
)
