"""`lossary run`: a study from text to table."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import (
    EngineOption,
    GenerationOption,
    JobsOption,
    KeepOption,
    ProgressOption,
    QuietOption,
    RunsOption,
    SetOption,
    StudyArgument,
    engine_of,
    open_study,
)
from lossary.cli.plan import plan

__all__ = ["run"]


def run(
    study: StudyArgument = Path(),
    runs: RunsOption = None,
    jobs: JobsOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that tokenise.", show_default="one for every core")
    ] = None,
    keep_prepared: KeepOption = None,
    new_generation: GenerationOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, as `lossary plan`.")] = False,
    engine: EngineOption = None,
    changes: SetOption = None,
    progress: ProgressOption = None,
    quiet: QuietOption = False,
) -> None:
    """Make the table from raw text: prepare, train, evaluate, report. Goes on where it was stopped."""
    from lossary import pipeline
    from lossary.cli.progress import listener_of

    opened = open_study(study, changes)
    pipeline.chosen_runs(opened.study, runs)
    if dry_run:
        plan(study, keep_prepared=keep_prepared, changes=changes)
        return
    allowed = pipeline.Allowed(keep_prepared=keep_prepared or (), new_generation=new_generation)
    with engine_of(opened.study, engine) as placed, listener_of(progress, quiet=quiet) as listener:
        settings = pipeline.Settings(runs=runs, jobs=jobs, workers=workers, allowed=allowed, engine=placed)
        page = pipeline.run_study(opened.study, opened.folder, settings=settings, listener=listener)
    if page is None:
        typer.echo(f"prepared {opened.folder.root}, which has no runs; checkpoints from elsewhere are scored by")
        typer.echo(f"`lossary evaluate {shlex.quote(str(study))} --checkpoint FOLDER`")
        return
    typer.echo(page.terminal)
    typer.echo(f"nothing to do; {page.path} is as it was" if page.is_kept else f"wrote {page.path}")
