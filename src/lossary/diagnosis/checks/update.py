"""Which update law does the side's optimizer follow, given gradients?"""

from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.laws.update_evidence import UpdateObservation
from lossary.diagnosis.laws.update_probe import probe_gradients, probe_weights
from lossary.diagnosis.laws.updates import identify_update
from lossary.diagnosis.session import NotObservable
from lossary.diagnosis.subject import Subject
from lossary.models.update_laws import UpdateLaw, learning_rate

__all__ = ["UPDATE"]

_STEPS, _REPLICAS = 5, 2


def _run(subject: Subject) -> Told:
    if subject.probes.is_large:
        raise NotObservable("the model is too large for this fit; a law shows at a small size, too (--like)")
    recipe, first = subject.setup.recipe, subject.first_update
    weights = probe_weights(subject.probes.plain, seed=subject.setup.seed)
    bound = recipe.optimizer.clip_norm or 1.0
    gradients = probe_gradients(weights, seed=subject.setup.seed, steps=_STEPS, replicas=_REPLICAS, bound=bound)
    after = subject.session.ask("updates", weights=weights, gradients=gradients, first=first)
    rates = _rates(subject, first)
    fit = identify_update(
        UpdateObservation(start=weights, gradients=gradients, weights=after, first=first),
        UpdateLaw.of(recipe.optimizer),
        rates=rates,
        declared=subject.declared,
    )
    subject.known["update equal"] = fit.equal
    return Told(
        fit=fit,
        measured=f"{_STEPS} updates from given gradients of {_REPLICAS} replicas differ from "
        f"{recipe.optimizer.name} in float64 by {fit.distance:,.3g} × the tolerance",
    )


def _rates(subject: Subject, first: int) -> list[float]:
    """Learning rates of the updates: declared, but where the side's schedule is known to be another."""
    recipe = subject.setup.recipe
    if "schedule" in subject.known.get("deviating", []):
        return list(subject.session.ask("learning_rates", start=first, stop=first + _STEPS))
    return [learning_rate(first + step, recipe.optimizer, recipe.steps) for step in range(_STEPS)]


UPDATE = Check(
    name="update",
    stage="update",
    about="Updates from given gradients of two replicas, against the declared law; a space of laws is searched.",
    needs=("load", "weights", "restart", "update"),
    run=_run,
)
