"""Settings in which two runs of a study differ: declared, so no fault, but the first thing that may explain a gap."""

from collections.abc import Iterator

from lossary.diagnosis.experiments.pair import Experiment, Pair
from lossary.diagnosis.model import Gap
from lossary.tables.comparability import differing_settings, run_settings

__all__ = ["SETTINGS"]


def _run(pair: Pair) -> Iterator[Gap]:
    if len(pair.runs) < 2:
        return
    settings = [run_settings(pair.folder, run) for run in pair.runs]
    if not all(settings):
        return
    rows = differing_settings(settings)
    kept = [row for row in rows if not row.name.startswith(("run", "digest", "description"))]
    text = "declared, and so no fault" if kept else "the two runs have the same settings"
    yield Gap(
        title="Settings in which the runs differ",
        text=(text,),
        rows=tuple({"setting": row.name, **dict(zip(pair.runs, row.values, strict=True))} for row in kept),
    )


SETTINGS = Experiment(
    name="settings",
    title="Settings in which the runs differ",
    about="Recipe, size, backend, datasets of two runs of a study, differences only.",
    run=_run,
)
