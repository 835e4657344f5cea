"""Any scorer on the validation set: its view, window by window, rank by rank, to one file of scores.

    score_study(folder, scorer, Asked(run="mine", step=500), emit=print)

Scores that are there for the same weights, view and precision stand. A scorer may say more than it must: `framework`,
`precision`, `notes`, and `weights_digest()`, without which it is always scored anew.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lossary.backends.process import Emit
from lossary.backends.ranks import OneRank, OtherFailed, Ranks, Word, raise_failed
from lossary.data.tokenizer import open_tokenizer
from lossary.data.validation import load_validation
from lossary.errors import ScoreError, UsageError
from lossary.folder import StudyFolder
from lossary.lease import hold, run_lease
from lossary.results.records import ScoreHeader, read_header
from lossary.scoring.api import Scorer, View
from lossary.scoring.ranks import store_together
from lossary.scoring.score import text_digests
from lossary.scoring.views import open_view
from lossary.vocabulary.open import open_vocabulary

__all__ = ["Asked", "score_study"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Under which name scores are kept, and how many examples a forward pass has: by memory if None."""

    run: str
    step: int
    batch_size: int | None = None
    tokens: int | None = None  # trained on, if known


def score_study(
    folder: StudyFolder, scorer: Scorer, asked: Asked, *, ranks: Ranks | None = None, holds: bool = True, emit: Emit
) -> Path:
    """Scores the validation set and stores the scores; with `ranks`, all of them call it alike and rank 0 stores.

    `holds`: whether this process takes the lease of the run. Raises what `open_view` raises, UsageError where the
    scorer is not made for the view, OtherFailed where another rank failed.
    """
    ranks = OneRank() if ranks is None else ranks
    tell: Emit = emit if ranks.rank == 0 else _silent
    with ExitStack() as held:
        with _together(ranks):
            if holds and ranks.rank == 0:
                held.enter_context(hold(folder, run_lease(asked.run), doing="evaluate"))
            view = None if ranks.rank else _view_of(folder, scorer, tell)
        with _together(ranks):
            # The first rank has made it.
            view = view or _view_of(folder, scorer, tell)
            header = _header(folder, scorer, view, asked)
        path = folder.scores(asked.run, asked.step)
        if ranks.exchange(Word.ENDED if ranks.rank == 0 and _stands(path, header) else Word.HERE)[0].word is Word.ENDED:
            return path
        store_together(ranks, scorer, view, (header, path), batch_size=asked.batch_size, emit=tell)
        for note in getattr(scorer, "notes", ()):
            tell({"event": "note", "text": note})
    return path


@contextmanager
def _together(ranks: Ranks) -> Iterator[None]:
    """Ranks go on when all have come to the end of the block; one that fails takes the others with it."""
    try:
        yield
    except OtherFailed:
        raise
    except BaseException:
        ranks.exchange(Word.FAILED)
        raise
    raise_failed(ranks.exchange(Word.HERE))


def _view_of(folder: StudyFolder, scorer: Scorer, emit: Emit) -> View:
    objective: Literal["mlm", "clm"] = "clm" if "clm" in scorer.objectives else "mlm"
    if objective not in scorer.objectives:
        raise UsageError(f"the scorer's objectives are {scorer.objectives}; mlm or clm is expected")

    def progress(text: str, done: float, total: float | None) -> None:
        emit({"event": "progress", "run": text, "done": done, "total": total, "examples_per_s": 0.0})

    view = open_view(folder, scorer.vocabulary, objective, max_length=scorer.max_length, progress=progress)
    if scorer.max_length is not None and view.longest > scorer.max_length:
        # The frozen examples of the study's own vocabulary are scored whole or not at all.
        raise UsageError(
            f"the model takes {scorer.max_length} tokens, and validation examples have up to {view.longest}",
            hint="Score it in a study whose [recipe] sequence_length it takes.",
        )
    return view


def _header(folder: StudyFolder, scorer: Scorer, view: View, asked: Asked) -> ScoreHeader:
    from lossary.version import __version__

    known: Any = scorer
    own = None if scorer.vocabulary is None else scorer.vocabulary.digest
    return ScoreHeader(
        run=asked.run,
        step=asked.step,
        objectives=tuple(scorer.objectives),
        validation_digest=load_validation(folder).digest,
        tokenizer_digest=open_tokenizer(folder).digest,
        weights_digest=known.weights_digest() if hasattr(scorer, "weights_digest") else "",
        backend=getattr(scorer, "framework", type(scorer).__name__),
        device=scorer.device,
        precision=getattr(scorer, "precision", ""),
        tokens=asked.tokens,
        lossary=__version__,
        tokenizer="same" if own in (None, open_vocabulary(folder.tokenizer).digest) else "own",
        validation=dict(view.parts),
        texts=text_digests(folder.as_drawn, view.datasets),
        vocabulary=view.vocabulary_title,
        folds_case=view.folds_case,
        vocabulary_digest=view.vocabulary_digest,
        vocabulary_size=None if scorer.vocabulary is None else scorer.vocabulary.size,
        view_digest=view.digest,
        left_out={name: dict(counts) for name, counts in view.left_out.items()},
    )


def _stands(path: Path, header: ScoreHeader) -> bool:
    """Whether the file has these scores of these weights."""
    if not header.weights_digest or not path.is_file():
        return False
    try:
        return replace(read_header(path, as_drawn=True), device=header.device) == header
    except ScoreError:
        return False


def _silent(_: Any) -> None:
    """Others than the first rank say nothing."""
