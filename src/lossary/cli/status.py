"""`lossary status`: what stands, who works, what comes next."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossary.cli.common import StudyArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lossary.lease import Holder
    from lossary.results.progress import Loss, RunProgress
    from lossary.status import Status

__all__ = ["status"]


def status(
    study: StudyArgument = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Say what is made of a study, how far its runs are, who works on it, and what `lossary run` would do next.

    It reads only, waits for nobody, and says what is damaged; the exit code is 0 wherever there is a study.
    """
    import json
    import time

    from lossary.status import status_of

    found, now = status_of(study), time.time()
    if as_json:
        typer.echo(json.dumps(_value(found, now), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        for line in _lines(found, now):
            typer.echo(line)


def _lines(found: "Status", now: float) -> "Iterator[str]":
    from lossary.reports.progress import duration, ending_text, holder_text, killed_text
    from lossary.reports.text import plain

    yield plain(f"{found.name or 'the study file cannot be read'}: {found.folder}")
    for holder in found.leases.working:
        yield f"works now: {holder_text(holder)} (last sign of life {duration(max(0.0, now - holder.seen))} ago)"
    for holder in found.leases.left:
        yield f"gone: {killed_text(holder)}"
    pieces = "" if found.vocabulary_size is None else f", {found.vocabulary_size:,} pieces"
    yield f"tokenizer: {found.tokenizer}{pieces}"
    if found.datasets:
        yield from ("", *_datasets(found))
    if found.runs:
        yield from ("", *_runs(found))
    for run in found.runs:
        if run.ending is not None:
            yield f"{plain(run.run)}: {ending_text(run.ending)}"
    if found.others:
        yield plain(f"not in the study file: {', '.join(found.others)}")
    yield ""
    for problem in found.problems:
        yield plain(f"problem: {problem.where}: {' '.join(problem.message.split())}")
    yield plain(f"`lossary run` would: {found.next.text}")


def _datasets(found: "Status") -> list[str]:
    from lossary.reports.text import aligned, plain

    rows = [("dataset", "prepared", "documents", "tokens", "training examples", "validation")]
    for one in found.datasets:
        training = ", ".join(f"{count:,} of length {length}" for length, count in one.training_examples.items()) or "—"
        validation = _count(one.validation_examples) if one.validation == "made" else one.validation
        rows.append((plain(one.name), one.state, _count(one.documents), _count(one.tokens), training, validation))
    return aligned(rows)


def _runs(found: "Status") -> list[str]:
    from lossary.reports.progress import duration, state_word
    from lossary.reports.text import aligned, plain

    rows = [("run", "state", "step", "of", "mlm", "sop", "tokens/s", "left", "checkpoint", "scored at")]
    for run in found.runs:
        scored = ", ".join(f"{step:,}" for step in run.scored[-3:]) or "—"
        rows.append(
            (
                plain(run.run),
                state_word(run),
                f"{run.step:,}",
                f"{run.steps:,}",
                _nats(run.micro.mlm),
                _nats(run.micro.sop),
                "—" if run.tokens_per_s is None else f"{run.tokens_per_s:,.0f}",
                "—" if run.left_s is None else duration(run.left_s),
                _count(run.checkpoint),
                f"… {scored}" if len(run.scored) > 3 else scored,
            )
        )
    return aligned(rows)


def _nats(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"


def _count(value: int | None) -> str:
    return "—" if value is None else f"{value:,}"


def _value(found: "Status", now: float) -> dict[str, Any]:
    """A status as JSON, as `docs/operating.md` has it."""
    from dataclasses import asdict

    from lossary.results.progress import LOSS_STEPS

    return {
        "schema": 1,
        "time": _iso(now),
        "folder": str(found.folder),
        "study": found.name,
        "tokenizer": {"state": found.tokenizer, "vocabulary_size": found.vocabulary_size},
        "datasets": [asdict(dataset) for dataset in found.datasets],
        "loss_steps": LOSS_STEPS,
        "runs": [_run(run) for run in found.runs],
        "other_runs": list(found.others),
        "working": [_holder(holder, now) for holder in found.leases.working],
        "left": [_holder(holder, now) for holder in found.leases.left],
        "next": {"kind": found.next.kind, "text": found.next.text},
        "problems": [{"where": problem.where, "message": problem.message} for problem in found.problems],
    }


def _run(run: "RunProgress") -> dict[str, Any]:
    ending = run.ending
    return {
        "run": run.run,
        "state": run.state,
        "step": run.step,
        "steps": run.steps,
        "tokens": run.tokens,
        "tokens_per_s": run.tokens_per_s,
        "left_s": run.left_s,
        "loss": {dataset: _loss(loss) for dataset, loss in run.loss.items()},
        "micro_loss": _loss(run.micro),
        "checkpoint": run.checkpoint,
        "scored": run.scored,
        "killed": run.killed is not None,
        "ended": None
        if ending is None
        else {
            "stage": ending.stage,
            "time": _iso(ending.time),
            "kind": ending.kind,
            "message": ending.message,
            "where": ending.where,
            "hint": ending.hint,
            "log": None if ending.log is None else str(ending.log),
        },
    }


def _loss(loss: "Loss") -> dict[str, float | None]:
    return {"mlm": loss.mlm, "sop": loss.sop}


def _holder(holder: "Holder", now: float) -> dict[str, Any]:
    return {
        "run": holder.run,
        "stage": holder.doing or None,
        "user": holder.user,
        "host": holder.host,
        "pid": holder.pid,
        "command": holder.command,
        "since": _iso(holder.since),
        "held_s": max(0.0, now - holder.since),
        "silent_s": max(0.0, now - holder.seen),
    }


def _iso(seconds: float) -> str | None:
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, OSError, ValueError):
        return None
