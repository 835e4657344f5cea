"""Which learning rates does the side use, from the start and after a resume?"""

import numpy as np

from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.laws.schedules import identify_schedule
from lossary.diagnosis.subject import Subject

__all__ = ["SCHEDULE"]

_MOST = 4000  # rates asked for; a long schedule is followed at its start and its warm-up


def _run(subject: Subject) -> Told:
    recipe = subject.setup.recipe
    stop = min(recipe.steps, max(_MOST, 2 * recipe.optimizer.warmup))
    rates = subject.session.ask("learning_rates", start=0, stop=stop)
    resume = stop // 2
    later = subject.session.ask("learning_rates", start=resume, stop=stop)
    fit = identify_schedule(
        np.asarray(rates, np.float64),
        start=0,
        optimizer=recipe.optimizer,
        steps=recipe.steps,
        resumed=(resume, np.asarray(later, np.float64)),
    )
    if not fit.equal:
        # An optimizer that follows its own schedule has no second fault for that.
        subject.known["rates"] = rates
    return Told(
        fit=fit,
        measured=f"learning rates of steps 0 to {stop:,}, and of {resume:,} to {stop:,} after a resume, "
        f"differ from the declared ones by {fit.distance:,.3g} × the tolerance",
    )


SCHEDULE = Check(
    name="schedule",
    stage="schedule",
    about="Learning rates as realised, also by a process that resumes, against the recipe's.",
    needs=("learning_rates",),
    run=_run,
)
