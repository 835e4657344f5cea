"""How far the runs of a study are, told from the files that training and scoring leave; no process is asked.

Whether a run is worked on, its lease says.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from lossary.errors import DataError, LossaryError, ScoreError
from lossary.failures import reason
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.lease import Holder, leases_of
from lossary.naming import names_beside
from lossary.results.endings import Ending, read_ending
from lossary.seals import check_sealed

if TYPE_CHECKING:
    from lossary.study import Study

__all__ = ["LOSS_STEPS", "Loss", "RunProgress", "State", "run_progress"]

State = Literal["waiting", "training", "scoring", "stopped", "trained", "scored"]
# The last loss is that of so many steps together: one step's is mostly noise.
LOSS_STEPS = 50
_SUMS = ("masked", "mlm_nats", "sop_pairs", "sop_nats")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Nats a masked token and a pair in the last `LOSS_STEPS` steps of training; None where there were none."""

    mlm: float | None
    sop: float | None


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """A run of the study file: its last step on disk, and how long the rest takes at its speed so far."""

    run: str
    state: State
    step: int
    steps: int
    tokens: int
    tokens_per_s: float | None
    left_s: float | None
    loss: dict[str, Loss]  # by dataset
    micro: Loss  # of all of them together
    checkpoint: int | None  # step of the newest one
    scored: list[int]  # steps with scores
    holder: Holder | None  # who works on it
    ending: Ending | None  # the error that ended it, unless somebody works on it again
    killed: Holder | None  # whose process is gone without an ending
    problems: tuple[LossaryError, ...]  # files of it that cannot be read

    @property
    def part(self) -> float:
        """From 0 to 1."""
        return min(1.0, self.step / self.steps)


def run_progress(study: "Study", folder: StudyFolder) -> list[RunProgress]:
    """Progress of every run, in the order of the study file."""
    leases = leases_of(folder)
    working = {holder.run: holder for holder in leases.working}
    left = {holder.run: holder for holder in leases.left}
    return [_progress(folder, run, study.recipe_of(run).steps, working.get(run), left.get(run)) for run in study.runs]


def _progress(folder: StudyFolder, run: str, steps: int, holder: Holder | None, left: Holder | None) -> RunProgress:
    problems: list[LossaryError] = []
    if holder is not None:
        steps = _steps_at_work(folder.run(run) / "run.json", steps, problems)
    last = _Last()
    try:
        last = _last(folder.steps(run))
    except ScoreError as error:
        problems.append(error)
    ending = None
    try:
        ending = None if holder else read_ending(folder, run)
    except DataError as error:
        problems.append(error)
    scored = _numbers(folder.run(run) / "scores", "*.parquet")
    checkpoint = max(_numbers(folder.checkpoints(run), "step-*/state.json"), default=None)
    step = max(last.step, checkpoint or 0)
    state = _state(step, steps, scored, holder)
    return RunProgress(
        run=run,
        state=state,
        step=step,
        steps=steps,
        tokens=last.tokens,
        tokens_per_s=last.tokens / last.elapsed_s if last.elapsed_s else None,
        left_s=last.elapsed_s / last.step * (steps - last.step) if state == "training" and last.step else None,
        loss=last.loss,
        micro=last.micro,
        checkpoint=checkpoint,
        scored=scored,
        holder=holder,
        ending=ending,
        killed=None if holder or ending else left,
        problems=tuple(problems),
    )


def _steps_at_work(record: Path, steps: int, problems: list[LossaryError]) -> int:
    """How many steps a run at work is trained for: `--set` may have told its process others than the study file."""
    try:
        known = read_json(record).get("recipe", {}).get("steps") if record.is_file() else None
    except DataError as error:
        problems.append(error)
        return steps
    return known if isinstance(known, int) else steps


def _state(step: int, steps: int, scored: Collection[int], holder: Holder | None) -> State:
    if holder is not None:
        return "scoring" if holder.doing == "evaluate" or step >= steps else "training"
    if step >= steps or (not step and scored):
        return "scored" if scored else "trained"
    return "stopped" if step else "waiting"


def _numbers(folder: Path, pattern: str) -> list[int]:
    """Steps, from the names of checkpoints or of files of scores; what is called otherwise is none."""
    found = (path.relative_to(folder).parts[0] for path in folder.glob(pattern))
    names = [name.removeprefix("step-").removesuffix(".parquet") for name in found]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


@dataclass(frozen=True, kw_only=True)
class _Last:
    """Of the last step on record: steps, tokens and seconds of training up to it, and losses of the steps before it."""

    step: int = 0
    tokens: int = 0
    elapsed_s: float = 0.0
    loss: dict[str, Loss] = field(default_factory=dict)
    micro: Loss = Loss(mlm=None, sop=None)


def _last(path: Path) -> _Last:
    """From the file of step records; nothing but zeros if there is none. ScoreError if it is damaged."""
    if not path.is_file():
        return _Last()
    try:
        check_sealed(path)
        file = pq.ParquetFile(path)
        if not file.metadata.num_row_groups:
            return _Last()
        columns = ["step", "dataset", "total_tokens", "elapsed_s", *_SUMS]
        table = file.read_row_group(file.metadata.num_row_groups - 1, columns=columns, use_threads=False)
        # They stand in the order of steps. As lists: arrays would make pyarrow import pandas, for longer than all this.
        datasets = len(table["dataset"].chunk(0).dictionary) if len(table) else 0
        rows = table.slice(max(0, len(table) - LOSS_STEPS * datasets)).to_pydict()
        names = names_beside(path)
        rows["dataset"] = [names.called(name) for name in rows["dataset"]]
        return _last_of(rows) if len(table) else _Last()
    except FileNotFoundError:
        return _Last()
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise ScoreError(
            f"not readable: {reason(error)}", where=str(path), hint="Delete it; the run goes on without it."
        ) from None


def _last_of(values: Mapping[str, list[Any]]) -> _Last:
    step = int(max(values["step"]))
    rows = [row for row, number in enumerate(values["step"]) if number > step - LOSS_STEPS]
    sums: dict[str, dict[str, float]] = {}
    for row in rows:
        of_dataset = sums.setdefault(values["dataset"][row], dict.fromkeys(_SUMS, 0.0))
        for name in _SUMS:
            of_dataset[name] += float(values[name][row])
    together = {name: sum(one[name] for one in sums.values()) for name in _SUMS}
    return _Last(
        step=step,
        tokens=int(max(values["total_tokens"])),
        elapsed_s=float(max(values["elapsed_s"])),
        loss={name: _loss(one) for name, one in sums.items()},
        micro=_loss(together),
    )


def _loss(sums: Mapping[str, float]) -> Loss:
    return Loss(mlm=_mean(sums["mlm_nats"], sums["masked"]), sop=_mean(sums["sop_nats"], sums["sop_pairs"]))


def _mean(nats: float, count: float) -> float | None:
    mean = nats / count if count else None
    return mean if mean is not None and isfinite(mean) else None
