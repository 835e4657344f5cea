"""`lossary evaluate`: checkpoints to scores."""

import re
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from lossary.cli.common import (
    EngineKind,
    EngineOption,
    JobsOption,
    ProgressOption,
    QuietOption,
    RunsOption,
    SetOption,
    StudyArgument,
    echo_text,
    engine_of,
    open_study,
)

if TYPE_CHECKING:
    from lossary.cli.common import OpenStudy, Style
    from lossary.pipeline import Which
    from lossary.scoring.foreign import Foreign
    from lossary.statistics.sequential import Rule

__all__ = ["evaluate"]


def evaluate(
    study: StudyArgument = Path(),
    runs: RunsOption = None,
    jobs: JobsOption = None,
    every: Annotated[bool, typer.Option("--all", help="Every checkpoint that is kept and not scored yet.")] = False,
    step: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="The checkpoint of this step, instead of the newest; with --checkpoint, the step that it is of.",
            show_default="what the checkpoint says",
        ),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="Score this checkpoint instead: a folder that transformers opens as a masked or causal language "
            "model, or google-research's TensorFlow 1 files (model.ckpt-N); may be given several times."
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of its column in the table, once for all checkpoints or once for each.",
            show_default="the folder's name",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="The checkpoint's tokenizer: a folder, a tokenizer.json or a SentencePiece model.",
            show_default="the one in its folder",
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option(help="Backend that scores an ALBERT: torch, tensorflow or jax; with --checkpoint.")
    ] = "torch",
    precision: Annotated[str, typer.Option(help="fp32 or bf16; with --checkpoint.")] = "fp32",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Examples a pass; scores do not depend on it.", show_default="by memory")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            help="`decided`: score windows until it is clear how the run differs from the base, not all examples.",
            show_default="all examples",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="With --until: the run to compare with, scored whole.", show_default="the best one scored"),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(
            help="With --until: decide whether they are equal to within so much of the metric: nats of a loss."
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="With --until: what is compared: a loss, an accuracy or bits a byte, as sop_accuracy.",
            show_default="mlm_loss",
        ),
    ] = None,
    anytime: Annotated[
        bool, typer.Option("--anytime", help="With --until: intervals that are valid at any number of looks; wider.")
    ] = False,
    engine: EngineOption = None,
    changes: SetOption = None,
    progress: ProgressOption = None,
    quiet: QuietOption = False,
) -> None:
    """Score checkpoints on the frozen validation set: the newest of every run, others, or one from elsewhere."""
    from lossary import pipeline
    from lossary.cli.progress import listener_of
    from lossary.errors import UsageError

    both = [option for option, given in (("--all", every), ("--step", step is not None)) if given]
    both += ["--checkpoint"] if checkpoint and every else []
    if len(both) > 1:
        raise UsageError(f"{' and '.join(both)} cannot be given together", hint="Give one of them.")
    if (checkpoint or until is not None) and engine == EngineKind.RAY:
        what = "checkpoints from elsewhere are scored" if checkpoint else "an evaluation that stops early is made"
        raise UsageError(f"{what} on this machine", where="--engine", hint="Leave it out.")
    if checkpoint and runs:
        raise UsageError(
            "--run and --checkpoint cannot be given together", hint="--name says what its column is called."
        )
    opened = open_study(study, changes)
    decide = {
        "--base": base is not None,
        "--within": within is not None,
        "--anytime": anytime,
        "--metric": metric is not None,
    }
    if until is not None:
        beside = {"--all": every, "--checkpoint": bool(checkpoint), "--batch-size": batch_size is not None}
        _refuse_beside_until(until, within, beside)
        found = _Decide(base, within, "anytime" if anytime else "obrien-fleming", metric or "mlm_loss")
        _until_decided(opened, found, runs=runs, jobs=jobs, step=step, listening=(progress, quiet))
        return
    for option in (option for option, given in decide.items() if given):
        raise UsageError(f"{option} says something of an evaluation that stops early", hint="Give --until decided.")
    if not checkpoint:
        _refuse_alone(name=name, tokenizer=tokenizer)
        if step == 0:
            raise UsageError("no run has a checkpoint of step 0", where="--step")
        with engine_of(opened.study, engine) as placed, listener_of(progress, quiet=quiet) as listener:
            which: Which | int = "all" if every else step or "newest"
            pipeline.evaluate(
                opened.study,
                opened.folder,
                runs=runs,
                jobs=jobs,
                batch_size=batch_size,
                which=which,
                engine=placed,
                listener=listener,
            )
        return
    like = _Like(backend=backend, precision=precision, tokenizer=tokenizer, step=step)
    foreign = _foreign(checkpoint, name or [], like, list(opened.study.runs))
    with listener_of(progress, quiet=quiet) as listener:
        pipeline.evaluate_foreign(opened.folder, foreign, jobs=jobs, batch_size=batch_size, listener=listener)
    if not quiet:
        names = ", ".join(dict.fromkeys(found.name for found in foreign))
        typer.echo(f"scored {names}: `{shlex.join(['lossary', 'show', str(study)])}` prints the table")


class _Decide(NamedTuple):
    """How it is decided whether to stop."""

    base: str | None
    margin: float | None
    rule: "Rule"
    metric: str


def _refuse_beside_until(until: str, within: float | None, beside: dict[str, bool]) -> None:
    from lossary.errors import UsageError
    from lossary.tables.equality import check_margin

    if until != "decided":
        raise UsageError(f"nothing is scored until {until!r}", where="--until", hint="Known: decided.")
    for option in (option for option, given in beside.items() if given):
        raise UsageError(f"--until and {option} cannot be given together", hint="Give one of them.")
    if within is not None:
        check_margin(within, str(within), where="--within", hint="Expected a number above 0: nats of a loss, as 0.01.")


def _until_decided(
    opened: "OpenStudy",
    decide: _Decide,
    *,
    runs: list[str] | None,
    jobs: int | None,
    step: int | None,
    listening: "tuple[Style | None, bool]",
) -> None:
    """Scores until it is clear, then prints what is."""
    from lossary import pipeline
    from lossary.cli.progress import listener_of
    from lossary.reports.sequential import print_sequential
    from lossary.tables.sequential import sequential_answers

    with listener_of(listening[0], quiet=listening[1]) as listener:
        asked = pipeline.Decide(*decide)
        done = pipeline.evaluate_until_decided(
            opened.study, opened.folder, asked, runs=runs, jobs=jobs, step=step, listener=listener
        )
    answers, _ = sequential_answers(opened.study, opened.folder, done, step=step, superseded=True)
    echo_text(partial(print_sequential, answers))


class _Like(NamedTuple):
    """How checkpoints from elsewhere are scored."""

    backend: str
    precision: str
    tokenizer: Path | None
    step: int | None


def _refuse_alone(**options: object) -> None:
    from lossary.errors import UsageError

    for option, given in options.items():
        if given:
            raise UsageError(f"--{option} says something of a checkpoint from elsewhere", hint="Give --checkpoint.")


def _foreign(checkpoints: list[Path], names: list[str], like: _Like, runs: list[str]) -> "list[Foreign]":
    """Checkpoints from elsewhere, each with a column of its own, or as steps of one."""
    from lossary.errors import UsageError
    from lossary.scoring.foreign import Foreign, foreign_of
    from lossary.study import BACKENDS
    from lossary.study_file import can_be_name, check_name

    if len(names) not in (0, 1, len(checkpoints)):
        raise UsageError(
            f"{len(names)} names for {len(checkpoints)} checkpoints",
            where="--name",
            hint="Give one for each, in order, or one for all.",
        )
    if like.backend not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise UsageError(f"no backend is called {like.backend!r}", where="--backend", hint=f"Known: {known}.")
    if like.precision not in ("fp32", "bf16"):
        raise UsageError(f"no precision is called {like.precision!r}", where="--precision", hint="Known: fp32, bf16.")
    if like.step is not None and len(checkpoints) > 1:
        raise UsageError(f"one step for {len(checkpoints)} checkpoints", where="--step", hint="Score them one by one.")
    titles: list[str | None] = [*names] * len(checkpoints) if len(names) == 1 else [*names] or [None] * len(checkpoints)

    def check(name: str) -> None:
        check_name(name, where="--name")
        if name in runs:
            raise UsageError(
                f"{name!r} is a run of the study", where="--name", hint="Give the checkpoint another name."
            )

    for name in names:
        check(name)
    found: list[Foreign] = []
    for path, title in zip(checkpoints, titles, strict=True):
        foreign = foreign_of(path, title, **like._asdict())
        if title is None and not can_be_name(foreign.name):
            instead = re.sub(r"[^\w.\-]+", "-", foreign.name).strip("-._") or "mine"
            raise UsageError(
                f"its folder's name {foreign.name!r} cannot be that of a column",
                where=str(path),
                hint=f"Give it one, as --name {shlex.quote(instead)}.",
            )
        check(foreign.name)
        if any((other.name, other.step) == (foreign.name, foreign.step) for other in found):
            raise UsageError(f"two checkpoints are called {foreign.name!r}", where="--name", hint="Give each a name.")
        found.append(foreign)
    return found
