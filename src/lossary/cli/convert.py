"""`lossary convert`: a checkpoint as transformers opens it."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["convert"]


def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="google-research's TensorFlow 1 files of an ALBERT or a BERT (model.ckpt-N), or a folder that "
            "transformers opens as ALBERT."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The folder to make; it must not exist.")],
) -> None:
    """Write a checkpoint as safetensors that transformers opens: weights, config.json and vocabulary.

    Weights become float32, bit by bit where they were saved so; the optimizer's state is left out.
    """
    from lossary.models.checkpoints import export_checkpoint, load_checkpoint, weights_digest
    from lossary.models.tf1 import family_of
    from lossary.models.tf_bert import bert_vocabulary, export_tf_bert, read_tf_bert
    from lossary.models.tf_bundle import Bundle, bundle_prefix

    prefix = None if (checkpoint / "config.json").is_file() else bundle_prefix(checkpoint)
    if prefix is not None and family_of(Bundle(prefix)) == "bert":
        made = read_tf_bert(prefix)
        vocabulary = bert_vocabulary(prefix)
        export_tf_bert(made, out, vocabulary)
        parameters, reached, said = made.parameters, made.step, made.config["architectures"][0]
        lacks = f", {said}" + ("" if vocabulary else ", no vocabulary: there is no vocab.txt beside it")
    else:
        found = load_checkpoint(checkpoint)
        export_checkpoint(found, out)
        parameters, reached = found.parameters, found.state.get("step")
        lacks = "" if found.has_sop else ", no sentence-order head"
    step = "" if reached is None else f", step {reached:,}"
    typer.echo(f"wrote {out}: {len(parameters)} parameters{step}{lacks}; weights {weights_digest(parameters)}")
