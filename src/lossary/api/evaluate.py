"""A model on a study's validation set: an object in this process, a checkpoint in one of its own.

    lossary.evaluate(model, "my-study", run="mine", step=500, tokenizer=tokenizer)

In this process no framework is imported that the model does not bring, and no environment variable is touched.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lossary.api.functions import PathLike, open_study, table
from lossary.api.results import OpenStudy, TableResult
from lossary.backends.ranks import OneRank, Ranks
from lossary.errors import UsageError
from lossary.study import Precision

__all__ = ["evaluate", "scorer_of"]


def _say(text: str) -> None:
    print(f"lossary: {text}", file=sys.stderr)


def evaluate(
    model: Any,
    study: PathLike | OpenStudy = ".",
    *,
    run: str,
    step: int | None = None,
    tokenizer: Any = None,
    precision: Precision = "fp32",
    batch_size: int | None = None,
    distributed: bool = True,
    note: Callable[[str], None] = _say,
) -> TableResult:
    """Scores a model on the frozen validation set under the name `run`, and returns its column of the table.

    `model`: a model of transformers with a head over its vocabulary; a scorer (`ModuleScorer`, `KerasScorer`, one of
    yours); an adapter with `forward`; or the path of a checkpoint, which is scored in a process of its own.
    `tokenizer`: the model's own (a folder, a tokenizer.json, one of transformers); without one its ids have to be those
    of the study. `step` is that of training; of a path what its folder says, if that is left open, and 0 of a model.
    Scores that are there for the same weights stand.

    Where `torch.distributed` runs, every rank calls it alike, each scores a part, and the first stores the scores; with
    `distributed=False` this process scores alone. `note` is told what a reader of the scores should know;
    without one it is printed on standard error.
    """
    from lossary.launcher import NotesOnly
    from lossary.pipeline import evaluate_foreign
    from lossary.remote.addresses import check_for_writing
    from lossary.scoring.evaluate import Asked, score_study
    from lossary.scoring.foreign import foreign_of
    from lossary.study_file import check_name

    opened, listener = open_study(study), NotesOnly(note)
    check_for_writing(opened.folder.root)
    check_name(run, where="run")
    if run in opened.study.runs:
        raise UsageError(f"{run!r} is a run of the study", where="run", hint="Give the model another name.")
    if step is not None and (isinstance(step, bool) or not isinstance(step, int) or step < 0):
        raise UsageError(f"step is {step!r}; a whole number from 0 is expected", where="step")
    if isinstance(model, str | os.PathLike):
        found = foreign_of(Path(model), run, precision=precision, tokenizer=_path_of(tokenizer), step=step)
        steps = evaluate_foreign(opened.folder, [found], batch_size=batch_size, listener=listener)
        return table(opened, runs=[run], step=steps[run][0])
    scorer = scorer_of(model, tokenizer, opened, precision=precision)
    asked = Asked(run=run, step=step or 0, batch_size=batch_size)
    score_study(
        opened.folder,
        scorer,
        asked,
        ranks=_ranks() if distributed else OneRank(),
        emit=lambda event: listener.event(run, event),
    )
    return table(opened, runs=[run], step=asked.step)


def _path_of(tokenizer: Any) -> Path | None:
    if tokenizer is None or isinstance(tokenizer, str | os.PathLike):
        return None if tokenizer is None else Path(tokenizer)
    raise UsageError(
        f"the tokenizer of a checkpoint is a path, not {type(tokenizer).__name__}",
        where="tokenizer",
        hint="Its process reads it; or load the model, and give both as objects.",
    )


def scorer_of(model: Any, tokenizer: Any, study: OpenStudy, *, precision: Precision = "fp32") -> Any:
    """What scores a model. UsageError where nothing here can, or its ids are not known to be the study's."""
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    if hasattr(model, "score") and hasattr(model, "objectives"):
        if tokenizer is not None:
            raise UsageError("a scorer has its tokenizer already", where="tokenizer", hint="Give it to the scorer.")
        return model
    if torch is not None and isinstance(model, torch.nn.Module):
        from lossary.backends.torch.scorer import HuggingFaceScorer

        scorer = HuggingFaceScorer(model, tokenizer, precision=precision)
        if scorer.vocabulary is None:
            _check_size(scorer.num_outputs, study)
        return scorer
    if keras is not None and isinstance(model, keras.Model):
        raise UsageError(
            "a Keras model does not say what its inputs are",
            where="model",
            hint="lossary.KerasScorer(lambda ids, mask, types: model(…, training=False), tokenizer) scores it.",
        )
    if callable(getattr(model, "forward", None)):
        from lossary.diagnosis.scorer import AdapterScorer

        if tokenizer is not None:
            raise UsageError("an adapter speaks the study's own vocabulary", where="tokenizer")
        return AdapterScorer(model)
    raise UsageError(
        f"{type(model).__name__} is nothing that can be scored",
        where="model",
        hint="Expected a model of transformers, a scorer, an adapter with forward, or the path of a checkpoint.",
    )


def _check_size(pieces: int, study: OpenStudy) -> None:
    """Ids without a tokenizer are taken for the study's where there are as many."""
    from lossary.data.tokenizer import open_tokenizer

    own = open_tokenizer(study.folder).vocabulary_size
    if pieces != own:
        raise UsageError(
            f"the model has {pieces:,} pieces, the study's own vocabulary {own:,}",
            where="tokenizer",
            hint="Give the model's tokenizer: a folder, a tokenizer.json, or one of transformers.",
        )


def _ranks() -> Ranks:
    if "torch" in sys.modules:
        from lossary.backends.torch.ranks import TorchRanks, is_launched

        if is_launched():
            return TorchRanks()
    return OneRank()
