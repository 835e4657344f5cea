"""Do the weights that training begins with follow the declared law?"""

import numpy as np

from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.laws.initial import identify_initial
from lossary.diagnosis.session import NotCompared
from lossary.diagnosis.subject import Subject
from lossary.models.parameters import parameter_table

__all__ = ["INITIAL"]

_OTHERWISE = (
    "done otherwise than the study's initializer_range, and the same for all matrices: {laws}. "
    'If you mean it, declare {{"initial": "default"}}'
)


def _run(subject: Subject) -> Told:
    meant = subject.declared.get("initial")
    if meant not in (None, "default"):
        raise NotCompared(f"the side declares weights of its own to begin with: {meant!r}")
    given = {name: np.asarray(value) for name, value in subject.session.ask("initial").items()}
    table = parameter_table(subject.setup.shape)
    other = [name for name, value in given.items() if table.get(name) != value.shape]
    if other or not given:
        raise NotCompared(
            f"`initial` returns what has no canonical name and shape: {', '.join(other[:3]) or 'nothing'}"
        )
    scale = float(subject.declared.get("initializer_range", subject.setup.shape.initializer_range))
    fit, defaults = identify_initial(given, scale=scale)
    skipped = {name: "`initial` does not return it" for name in table if name not in given}
    if defaults and meant is None:
        laws = "; ".join(f"{says} ({len(names)} tensors)" for says, names in defaults.items())
        skipped["the law of a framework's default"] = _OTHERWISE.format(laws=laws)
    worst = "" if fit.equal else ": " + (fit.best.says if fit.best else "no law of the library fits")
    return Told(
        fit=fit,
        measured=f"{len(given)} tensors that training begins with, against deviation {scale:g}{worst}",
        skipped=skipped,
    )


INITIAL = Check(
    name="initial",
    stage="weights",
    about="Weights that training begins with: their law, tensor by tensor; biases, norms; tensors with equal draws.",
    needs=("initial",),
    run=_run,
)
