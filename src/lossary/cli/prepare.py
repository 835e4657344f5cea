"""`lossary prepare`: tokenizer, shards and the frozen validation set."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import (
    EngineOption,
    GenerationOption,
    KeepOption,
    ProgressOption,
    QuietOption,
    SetOption,
    StudyArgument,
    engine_of,
    open_study,
)

__all__ = ["prepare"]


def prepare(
    study: StudyArgument = Path(),
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that tokenise.", show_default="one for every core")
    ] = None,
    keep_prepared: KeepOption = None,
    new_generation: GenerationOption = False,
    engine: EngineOption = None,
    changes: SetOption = None,
    progress: ProgressOption = None,
    quiet: QuietOption = False,
) -> None:
    """Read the datasets: tokenise them, split and freeze the validation set. What is up to date is kept."""
    from lossary import pipeline
    from lossary.cli.progress import listener_of

    opened = open_study(study, changes)
    allowed = pipeline.Allowed(keep_prepared=keep_prepared or (), new_generation=new_generation)
    with engine_of(opened.study, engine) as placed, listener_of(progress, quiet=quiet) as listener:
        pipeline.prepare(
            opened.study, opened.folder, workers=workers, allowed=allowed, engine=placed, listener=listener
        )
