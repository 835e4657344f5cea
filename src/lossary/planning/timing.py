"""Times steps on this machine before anything is prepared: random pieces, weights that nobody keeps.

timed = time_runs(study, {"torch_xl": shape_of_run(study, folder, "torch_xl")}, steps=3, told=print)
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lossary.backends.process import StopRequest, run_worker, stop_on_signals
from lossary.errors import Interrupted
from lossary.models.architectures import ModelShape, shape_value
from lossary.planning.estimates import Timed
from lossary.study import Study

__all__ = ["time_runs"]


def time_runs(
    study: Study, shapes: Mapping[str, ModelShape], *, steps: int, told: Callable[[str], None]
) -> dict[str, Timed]:
    """Times runs one after another, each with all cores; runs that compute alike are timed once."""
    found: dict[tuple[Any, ...], Timed] = {}
    result = {}
    stop = StopRequest()
    with stop_on_signals(stop), TemporaryDirectory(prefix="lossary-plan-") as name:
        for run, shape in shapes.items():
            key = _computes(study, run, shape)
            if key not in found:
                if stop.asked:
                    raise Interrupted("interrupted; nothing was written")
                told(run)
                job = {"study": study.model_dump(mode="json", by_alias=True), "run": run, "steps": steps}
                done = run_worker(
                    "lossary.training.timing",
                    job | {"folder": name, "shape": shape_value(shape)},
                    backend=study.runs[run].backend,
                    threads=os.cpu_count() or 1,
                    log=Path(name) / f"{run}.log",
                    emit=_unheard,
                    stop=stop,
                )
                found[key] = Timed(float(done["step_s"]), float(done["score_s"]))
            result[run] = found[key]
    return result


def _unheard(event: Mapping[str, Any]) -> None:
    """A worker that times has nothing to tell on the way."""
    del event


def _computes(study: Study, run: str, shape: ModelShape) -> tuple[Any, ...]:
    """What the time of a run hangs on, but for its examples."""
    settings, recipe = study.runs[run], study.recipe_of(run)
    sizes = (recipe.sequence_length, recipe.batch_size, recipe.mask_rate, recipe.max_predictions)
    return (settings.backend, settings.device, recipe.precision, shape, *sizes)
