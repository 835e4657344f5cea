"""`lossary evaluate`: checkpoints to scores."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import JobsOption, ProgressOption, QuietOption, RunsOption, SetOption, StudyArgument, open_study

__all__ = ["evaluate"]


def evaluate(
    study: StudyArgument = Path(),
    runs: RunsOption = None,
    jobs: JobsOption = None,
    every: Annotated[bool, typer.Option("--all", help="Every checkpoint that is kept and not scored yet.")] = False,
    step: Annotated[int | None, typer.Option(min=1, help="The checkpoint of this step, instead of the newest.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Score this checkpoint instead: any folder that transformers opens as ALBERT.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of its column in the table.", show_default="the folder's name")
    ] = None,
    backend: Annotated[
        str, typer.Option(help="Backend that scores it: torch, tensorflow or jax; with --checkpoint.")
    ] = "torch",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Examples a pass; scores do not depend on it.", show_default="by memory")
    ] = None,
    changes: SetOption = None,
    progress: ProgressOption = None,
    quiet: QuietOption = False,
) -> None:
    """Score checkpoints on the frozen validation set: the newest of every run, others, or one from elsewhere."""
    from lossary import pipeline
    from lossary.cli.progress import listener_of
    from lossary.errors import UsageError
    from lossary.study import BACKENDS, check_name

    named = [option for option, given in (("--all", every), ("--step", step), ("--checkpoint", checkpoint)) if given]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} cannot be given together", hint="Give one of them.")
    opened = open_study(study, changes)
    foreign = None
    if checkpoint is not None:
        if backend not in BACKENDS:
            raise UsageError(
                f"no backend is called {backend!r}", where="--backend", hint=f"Known: {', '.join(BACKENDS)}."
            )
        title = checkpoint.resolve().name if name is None else name
        check_name(title, where="--name")
        if title in opened.study.runs:
            raise UsageError(
                f"{title!r} is a run of the study", where="--name", hint="Give the checkpoint another name."
            )
        foreign = pipeline.Foreign(name=title, checkpoint=checkpoint.resolve(), backend=backend)
    with listener_of(progress, quiet=quiet) as listener:
        pipeline.evaluate(
            opened.study,
            opened.folder,
            runs=runs,
            jobs=jobs,
            batch_size=batch_size,
            which="all" if every else step or "newest",
            foreign=foreign,
            listener=listener,
        )
