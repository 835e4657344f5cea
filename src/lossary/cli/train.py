"""`lossary train`: the runs of a study."""

from pathlib import Path

import typer

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
    from lossary.errors import UsageError

    opened = open_study(study, changes)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        try:
            with listener_of(progress, quiet=quiet) as listener:
                pipeline.train_launched(opened.study, opened.folder, runs=runs, listener=listener)
        except UsageError as error:
            # All ranks find the same; one says it.
            if os.environ.get("RANK", "0") != "0":
                raise typer.Exit(error.exit_code) from None
            raise
        return
    with engine_of(opened.study, engine) as placed, listener_of(progress, quiet=quiet) as listener:
        pipeline.train(opened.study, opened.folder, runs=runs, jobs=jobs, engine=placed, listener=listener)
