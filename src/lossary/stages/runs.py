"""Which runs a stage is asked for, and what stands against them."""

from collections.abc import Sequence

from lossary.backends.devices import lacking_device
from lossary.engines.api import Engine, Needs
from lossary.errors import ChangeRefused, RunError, UsageError
from lossary.folder import StudyFolder
from lossary.study import Study
from lossary.training.plan import course_of, plan_run

__all__ = ["check_courses", "check_devices", "chosen_runs", "needs_of", "some_runs"]


def chosen_runs(study: Study, runs: Sequence[str] | None) -> list[str]:
    """The runs of a study that are asked for, in its order; UsageError if one of them is unknown."""
    unknown = [run for run in runs or [] if run not in study.runs]
    if unknown:
        raise UsageError(f"no run is called {unknown[0]!r}", hint=f"Runs: {', '.join(study.runs)}.")
    return [run for run in study.runs if runs is None or run in runs]


def some_runs(study: Study, folder: StudyFolder, runs: Sequence[str] | None) -> list[str]:
    """As `chosen_runs`; UsageError if the study has none."""
    if not study.runs:
        raise UsageError(
            "the study has no runs",
            where=str(folder.study_file),
            hint="Add [runs.NAME] with backend and size; `lossary evaluate --checkpoint FOLDER` scores what you have.",
        )
    return chosen_runs(study, runs)


def needs_of(study: Study) -> dict[str, Needs]:
    """What each run takes of a machine."""
    return {run: Needs.of(settings) for run, settings in study.runs.items()}


def check_courses(study: Study, folder: StudyFolder, runs: Sequence[str]) -> None:
    """No run is trained where one of them cannot go on as the study file asks."""
    for run in runs:
        course = course_of(plan_run(study.drawn(), folder.as_drawn, run), folder)
        if course.fate == "refused":
            raise ChangeRefused(
                f"run {run}: {course.why}",
                where=str(folder.study_file),
                hint="Undo the change, or give the changed run another name; `lossary plan` says what else there is.",
            )


def check_devices(study: Study, folder: StudyFolder, runs: Sequence[str], engine: Engine | None) -> None:
    """No run is begun where this machine lacks the device of one of them; what machines of a cluster have, they say."""
    if engine is not None and not engine.is_local:
        return
    for run in runs:
        lacking = lacking_device(study.runs[run].device)
        if lacking is not None:
            raise RunError(
                lacking,
                where=f"{folder.study_file}: $.runs.{run}.device",
                hint=f"Leave it out for the best one there is, or `--set runs.{run}.device=cpu` for now.",
            )
