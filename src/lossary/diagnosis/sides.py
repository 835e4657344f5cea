"""What the two names of a diagnosis mean: a user's adapter file, a run of the study, a backend, or the reference.

resolve("trainer/adapter.py", study, folder, like="torch_xxl")
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lossary.data.batches import training_shares
from lossary.data.tokenizer import MODEL, TokenizerModel, open_tokenizer
from lossary.diagnosis.adapter import Setup
from lossary.diagnosis.session import SideSpec
from lossary.errors import UsageError
from lossary.folder import StudyFolder
from lossary.models.architectures import run_shape
from lossary.models.shapes import AlbertShape
from lossary.study import BACKENDS, Study

__all__ = ["REFERENCE", "Side", "resolve", "run_setup"]

REFERENCE = "reference"
# What lossary's own backends compute does not depend on the size; a small model shows it in seconds.
_SMALL = {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "intermediate_size": 256, "embedding_size": 64}


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two names, resolved."""

    label: str
    spec: SideSpec | None  # None: the reference alone, which needs no process
    setup: Setup
    run: str | None = None  # of the study, where it is one


def resolve(names: Sequence[str], study: Study, folder: StudyFolder, *, like: str | None, threads: int) -> list[Side]:
    """The sides that names mean; UsageError lists what could be meant."""
    if not study.runs:
        raise UsageError(
            "the study has no runs, and a diagnosis takes the shape of one's model",
            where=str(folder.study_file),
            hint="Add [runs.NAME] with backend and size.",
        )
    runs = [name for name in names if name in study.runs]
    if like is not None and like not in study.runs:
        raise UsageError(f"no run is called {like!r}", where="--like", hint=f"Runs: {', '.join(study.runs)}.")
    alberts = [run for run in study.runs if study.runs[run].model is None]
    model = like or next(iter([*runs, *alberts, *study.runs]))
    return [_side(name, study, folder, name if name in study.runs else model, threads) for name in names]


def _side(name: str, study: Study, folder: StudyFolder, like: str, threads: int) -> Side:
    setup = run_setup(study, folder, like, threads=threads)
    if name == REFERENCE:
        return Side(label=name, spec=None, setup=setup)
    if name in study.runs:
        spec = SideSpec(label=name, kind="backend", backend=study.runs[name].backend)
        return Side(label=name, spec=spec, setup=_small(setup), run=name)
    if name in BACKENDS:
        return Side(label=name, spec=SideSpec(label=name, kind="backend", backend=name), setup=_small(setup))
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise UsageError("no such file", where=name)
        return Side(label=path.stem, spec=SideSpec(label=path.stem, kind="adapter", path=path.resolve()), setup=setup)
    known = [*study.runs, REFERENCE, *BACKENDS]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise UsageError(
        f"no side is called {name!r}",
        hint=f"{hint}A side is an adapter (a .py file), or one of {', '.join(known)}.",
    )


def run_setup(study: Study, folder: StudyFolder, run: str, *, threads: int) -> Setup:
    """The setup of a side that has a run's recipe and size."""
    recipe = study.recipe_of(run)
    assert recipe.seed is not None
    tokenizer = open_tokenizer(folder)
    if not isinstance(tokenizer, TokenizerModel):
        raise UsageError(
            "a diagnosis holds sides against a computation with a SentencePiece model; this study has a tokenizer.json",
            where=str(tokenizer.path),
            hint="Its runs can be trained, scored, compared and checked. Diagnose a study of the same sources that "
            "leaves out [tokenizer] model.",
        )
    shape = run_shape(study, folder, run, vocabulary_size=tokenizer.vocabulary_size)
    if not isinstance(shape, AlbertShape):
        raise UsageError(
            f"run {run!r} trains {study.runs[run].size_label}, and diagnosis knows the laws of ALBERT",
            hint="Name a run with a size.",
        )
    return Setup(
        shape=shape,
        recipe=recipe,
        tokenizer=(folder.tokenizer / MODEL).resolve(),
        datasets=tuple(study.datasets),
        shares=training_shares(study, folder, recipe.sequence_length),
        seed=recipe.seed,
        threads=threads,
        drawn_as=folder.names.drawn,
    )


def _small(setup: Setup) -> Setup:
    if setup.shape.hidden_size <= _SMALL["hidden_size"]:
        return setup
    shape = AlbertShape(**(vars(setup.shape) | _SMALL))
    return replace(setup, shape=shape)
