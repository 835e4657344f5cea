"""`lossary train`: the runs of a study."""

from pathlib import Path

from lossary.cli.common import (
    EngineOption,
    JobsOption,
    ProgressOption,
    QuietOption,
    RunsOption,
    SetOption,
    StudyArgument,
    engine_of,
    open_study,
)

__all__ = ["train"]


def train(
    study: StudyArgument = Path(),
    runs: RunsOption = None,
    jobs: JobsOption = None,
    engine: EngineOption = None,
    changes: SetOption = None,
    progress: ProgressOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train the runs of a prepared study; each goes on from its last checkpoint."""
    import os

    from lossary import pipeline
    from lossary.cli.progress import listener_of

    opened = open_study(study, changes)
    with engine_of(opened.study, engine) as placed, listener_of(progress, quiet=quiet) as listener:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            pipeline.train_launched(opened.study, opened.folder, runs=runs, listener=listener)
            return
        pipeline.train(opened.study, opened.folder, runs=runs, jobs=jobs, engine=placed, listener=listener)
