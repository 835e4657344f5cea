"""Checkpoints from elsewhere: what a path holds, and as what it is scored.

foreign_of(Path("out/checkpoint-500"))       # .name "out", .step 500, .kind "transformers"
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossary.errors import UsageError
from lossary.folder import StudyFolder
from lossary.models.folders import STEP_FOLDER, FolderModel, Kind, name_of, recognise
from lossary.models.tf_bert import bert_vocabulary
from lossary.results.origins import ScoredFrom
from lossary.scoring.score import ScoreJob
from lossary.study import Precision

__all__ = ["Foreign", "foreign_of", "foreign_request"]


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A checkpoint from elsewhere, or one of a run on another backend, to be scored under a name.

    ALBERTs of the study's own vocabulary run on any backend; with a tokenizer of its own, or of another class, one is a
    model of transformers. Several of one name are steps of it.
    """

    name: str
    checkpoint: Path
    backend: str
    kind: Kind = "albert"
    tokenizer: Path | None = None  # None: the study's for ALBERTs, else what lies in the folder
    step: int | None = None  # None: what the checkpoint says, else 0
    precision: Precision = "fp32"
    is_named: bool = True  # whether somebody chose its name

    @property
    def origin(self) -> Path:
        """The folder that its steps are steps of."""
        return self.checkpoint.parent if STEP_FOLDER.fullmatch(self.checkpoint.name) else self.checkpoint

    def scored_from(self, step: int) -> ScoredFrom:
        """What a column keeps of it."""
        return ScoredFrom(
            step=step,
            checkpoint=self.checkpoint,
            origin=self.origin,
            tokenizer=self.tokenizer,
            precision=self.precision,
            backend=self.backend,
        )

    def job(self, batch_size: int | None) -> ScoreJob:
        """How an ALBERT of the study's vocabulary is scored."""
        return ScoreJob(
            name=self.name,
            checkpoint=self.checkpoint,
            backend=self.backend,
            precision=self.precision,
            batch_size=batch_size,
            step=self.step,
        )


def foreign_of(
    path: Path,
    name: str | None = None,
    *,
    backend: str = "torch",
    precision: str = "fp32",
    tokenizer: Path | None = None,
    step: int | None = None,
) -> Foreign:
    """What a path holds, as what is scored; without a name it is the folder's, or that of the run it is a step of.

    CheckpointError if it is none, UsageError where it cannot be scored as asked.
    """
    found = recognise(path)
    place = found.path.resolve()
    if found.kind == "keras":
        raise UsageError(
            "a Keras model does not say what its inputs are, nor which pieces they stand for",
            where=str(path),
            hint="Load it in Python: lossary.evaluate(lossary.KerasScorer(call, tokenizer), study, run=NAME); "
            "docs/checkpoints.md has the call.",
        )
    if found.kind == "tf1" and tokenizer is not None:
        raise UsageError(
            "TensorFlow 1 files are scored in the study's own vocabulary",
            where="--tokenizer",
            hint="`lossary convert` makes a folder of them, whose tokenizer can be named.",
        )
    if found.tensorflow_1 is not None and tokenizer is None:
        tokenizer = bert_vocabulary(found.tensorflow_1)
        if tokenizer is None:
            raise UsageError("there is no vocab.txt beside it", where=str(path), hint="Name it with --tokenizer.")
    _ask_step(found, name, step)
    # An ALBERT that speaks another vocabulary is a model of transformers like others.
    kind: Kind = "transformers" if found.kind == "albert" and tokenizer is not None else found.kind
    if kind == "transformers" and backend != "torch":
        raise UsageError(f"{found.architecture} is scored by torch", where="--backend", hint="Leave --backend out.")
    return Foreign(
        name=name or name_of(place),
        checkpoint=place,
        backend=backend,
        kind=kind,
        tokenizer=None if tokenizer is None else tokenizer.resolve(),
        step=step if step is not None or kind != "transformers" else found.step,
        precision="bf16" if precision == "bf16" else "fp32",
        is_named=name is not None,
    )


def _ask_step(found: FolderModel, name: str | None, step: int | None) -> None:
    """UsageError of a Trainer's output folder with a model of its own: its column is that of the steps in it."""
    steps = sorted(
        int(entry.name.rpartition("-")[2])
        for entry in found.path.glob("checkpoint-*")
        if STEP_FOLDER.fullmatch(entry.name)
    )
    if not steps or found.step is not None or name is not None or step is not None:
        return
    path, last = shlex.quote(str(found.path)), shlex.quote(str(found.path / f"checkpoint-{steps[-1]}"))
    raise UsageError(
        f"nothing in it says of which step its model is; beside it lie {', '.join(f'checkpoint-{at}' for at in steps)}",
        where=str(found.path),
        hint=f"If it is that of the last step: --checkpoint {path} --step {steps[-1]}. The step beside it is "
        f"--checkpoint {last}. With --name it has a column of its own.",
    )


def foreign_request(folder: StudyFolder, foreign: Sequence[Foreign], batch_size: int | None) -> dict[str, Any]:
    """The job of `lossary.scoring.foreign_job` for models of transformers of one name."""
    return {
        "folder": str(folder.root),
        "name": foreign[0].name,
        "batch_size": batch_size,
        "precision": foreign[0].precision,
        "checkpoints": [
            {
                "path": str(found.checkpoint),
                "tokenizer": None if found.tokenizer is None else str(found.tokenizer),
                "step": found.step or 0,
            }
            for found in foreign
        ],
    }
