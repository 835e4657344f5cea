"""`lossary evaluate`: checkpoints to scores."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import JobsOption, RunsOption, StudyArgument, open_study

__all__ = ["evaluate"]


def evaluate(
    study: StudyArgument = Path(),
    runs: RunsOption = None,
    jobs: JobsOption = None,
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
) -> None:
    """Score the newest checkpoint of every run on the frozen validation set, or one checkpoint from elsewhere."""
    from lossary import pipeline
    from lossary.cli.progress import TerminalListener
    from lossary.errors import UsageError
    from lossary.study import BACKENDS, check_name

    opened = open_study(study)
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
    with TerminalListener() as listener:
        pipeline.evaluate(
            opened.study,
            opened.folder,
            runs=runs,
            jobs=jobs,
            batch_size=batch_size,
            foreign=foreign,
            listener=listener,
        )
