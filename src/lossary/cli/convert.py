"""`lossary convert`: a checkpoint as transformers opens it."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["convert"]


def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="A folder that transformers opens as ALBERT, or google-research's TensorFlow 1 files (model.ckpt-N)."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The folder to make; it must not exist.")],
) -> None:
    """Write an ALBERT checkpoint as safetensors that transformers opens: weights, config.json and vocabulary.

    Weights become float32, bit by bit where they were saved so; the optimizer's state is left out.
    """
    from lossary.models.checkpoints import export_checkpoint, load_checkpoint, weights_digest

    found = load_checkpoint(checkpoint)
    export_checkpoint(found, out)
    step = f", step {found.state['step']:,}" if "step" in found.state else ""
    head = "" if found.has_sop else ", no sentence-order head"
    typer.echo(
        f"wrote {out}: {len(found.parameters)} parameters{step}{head}; weights {weights_digest(found.parameters)}"
    )
