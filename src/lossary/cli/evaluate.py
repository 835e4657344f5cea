"""`lossary evaluate`: checkpoints to scores."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossary.cli.common import JobsOption, ProgressOption, QuietOption, RunsOption, SetOption, StudyArgument, open_study

if TYPE_CHECKING:
    from lossary.pipeline import Foreign

__all__ = ["evaluate"]


def evaluate(
    study: StudyArgument = Path(),
    runs: RunsOption = None,
    jobs: JobsOption = None,
    every: Annotated[bool, typer.Option("--all", help="Every checkpoint that is kept and not scored yet.")] = False,
    step: Annotated[int | None, typer.Option(min=1, help="The checkpoint of this step, instead of the newest.")] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="Score this checkpoint instead: a folder that transformers opens as ALBERT, or google-research's "
            "TensorFlow 1 files (model.ckpt-N); may be given several times."
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Name of its column in the table, once a checkpoint.", show_default="the file's name"),
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

    named = [option for option, given in (("--all", every), ("--step", step), ("--checkpoint", checkpoint)) if given]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} cannot be given together", hint="Give one of them.")
    if checkpoint and runs:
        raise UsageError(
            "--run and --checkpoint cannot be given together", hint="--name says what its column is called."
        )
    opened = open_study(study, changes)
    foreign = _foreign(checkpoint or [], name or [], backend, list(opened.study.runs))
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


def _foreign(checkpoints: list[Path], names: list[str], backend: str, runs: list[str]) -> "list[Foreign]":
    """Checkpoints from elsewhere, each with a column of its own."""
    from lossary.errors import UsageError
    from lossary.pipeline import Foreign
    from lossary.study import BACKENDS, check_name

    if names and len(names) != len(checkpoints):
        raise UsageError(
            f"{len(names)} names for {len(checkpoints)} checkpoints",
            where="--name",
            hint="Give one for each, in order.",
        )
    if checkpoints and backend not in BACKENDS:
        raise UsageError(f"no backend is called {backend!r}", where="--backend", hint=f"Known: {', '.join(BACKENDS)}.")
    titles = names or [path.resolve().name for path in checkpoints]
    for title in titles:
        check_name(title, where="--name")
        if title in runs:
            raise UsageError(
                f"{title!r} is a run of the study", where="--name", hint="Give the checkpoint another name."
            )
        if titles.count(title) > 1:
            raise UsageError(f"two checkpoints are called {title!r}", where="--name", hint="Give each a name.")
    return [
        Foreign(name=title, checkpoint=path.resolve(), backend=backend)
        for title, path in zip(titles, checkpoints, strict=True)
    ]
