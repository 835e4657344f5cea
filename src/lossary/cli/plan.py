"""`lossary plan`: what a study would do, keep, or lose."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossary.cli.common import KeepOption, OpenStudy, SetOption, StudyArgument, check_format, open_study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossary.planning.estimates import Timed
    from lossary.planning.model import Item
    from lossary.planning.sample_size import SampleSizes

__all__ = ["plan"]

_STEPS = 20


def plan(
    study: StudyArgument = Path(),
    keep_prepared: KeepOption = None,
    changes: SetOption = None,
    time: Annotated[
        bool,
        typer.Option(
            "--time",
            help=f"Time up to {_STEPS} steps of each run here: seconds for a small model, minutes for xxlarge.",
        ),
    ] = False,
    see: Annotated[
        float | None,
        typer.Option(
            help="Also say how many validation examples would show a difference of so many nats; "
            "of bits a byte where no two scored runs share a vocabulary."
        ),
    ] = None,
    # Eager: whether a study at a URL is written to is known before it is opened.
    write: Annotated[
        bool,
        typer.Option("--write", is_eager=True, help="With --see: write the table [validation] into the study file."),
    ] = False,
    format: Annotated[str, typer.Option("--format", "-f", help="text or json.")] = "text",
) -> None:
    """Say what `lossary run` would keep, make, go on with or refuse, and how large it is. Writes only if told to.

    Sources are looked into. Exit code 2 if a change is refused because it would lose what stands, 3 if a source or a
    device cannot be used.
    """
    import json
    from dataclasses import asdict

    from lossary.planning.estimates import estimate
    from lossary.planning.plan import make_plan
    from lossary.planning.sample_size import sample_sizes
    from lossary.planning.text import estimate_lines, plan_lines, plan_value, sample_lines

    check_format(format)
    _refuse_beside_write(write, see, changes)
    opened = open_study(study, changes)
    found = make_plan(opened.study, opened.folder, keep=keep_prepared or (), looks=True)
    timed = _timed(opened) if time else None
    sizes = estimate(opened.study, opened.folder, timed)
    samples = None if see is None else sample_sizes(opened.study, opened.folder, see, sizes)
    if format == "json":
        more: dict[str, object] = (
            {} if samples is None else {"see": asdict(samples) | {"validation": samples.validation}}
        )
        more |= {"written": _written(study, opened, samples, keep_prepared)} if samples and write else {}
        typer.echo(json.dumps(plan_value(found, sizes) | more, indent=1, ensure_ascii=False, allow_nan=False))
    else:
        for line in plan_lines(found.items):
            typer.echo(line)
        if found.unusable:
            typer.echo(f"\n`lossary run` would touch nothing: {_listed(found.unusable)} cannot be used")
        for item in found.refused:
            typer.echo(f"\n{item.what} is refused; ways out:")
            for way in item.ways:
                typer.echo(f"  - {way}")
        typer.echo("")
        for line in [*estimate_lines(sizes), *([] if samples is None else ["", *sample_lines(samples, writes=write)])]:
            typer.echo(line)
        if samples and write:
            for line in ["", *_written(study, opened, samples, keep_prepared)]:
                typer.echo(line)
    if found.refused:
        raise typer.Exit(2)
    if found.unusable:
        raise typer.Exit(3)


def _refuse_beside_write(write: bool, see: float | None, changes: list[str] | None) -> None:
    from lossary.errors import UsageError

    if write and see is None:
        raise UsageError("--write writes what a difference takes", where="--write", hint="Give --see DIFFERENCE.")
    if write and changes:
        raise UsageError(
            "--write and --set cannot be given together",
            hint="Put what --set says into the study file first: what is planned is to stand in it.",
        )


def _written(study: Path, opened: OpenStudy, samples: "SampleSizes", keep: "Sequence[str] | None") -> list[str]:
    """Writes the table [validation]; says what becomes of frozen examples."""
    from lossary.editing.validation import plan_validation
    from lossary.lease import STUDY, hold
    from lossary.planning.text import plan_lines
    from lossary.study_file import find_study_file

    file = find_study_file(study)
    with hold(opened.folder, STUDY):
        planned = plan_validation(file, opened.folder, samples, keep=keep or ())
        if not planned.is_new:
            return [f"{file.name} has this table [validation] already; {planned.told}"]
        planned.document.write()
    said = f"written to {file.name}: the table [validation]; totals are weighted by its shares from now on"
    return [*plan_lines(planned.items), said, planned.told]


def _listed(items: "Sequence[Item]") -> str:
    return ", ".join(f"the device of {item.what}" if item.kind == "run" else item.what for item in items)


def _timed(opened: OpenStudy) -> "dict[str, Timed]":
    """Runs that have steps left, timed."""
    from lossary.planning.estimates import shape_of_run
    from lossary.planning.timing import time_runs
    from lossary.training.plan import steps_done

    study, folder = opened
    left = [run for run in study.runs if steps_done(folder, run) < study.recipe_of(run).steps]
    shapes = {run: shape_of_run(study, folder, run) for run in left}
    return time_runs(study, shapes, steps=_STEPS, told=lambda run: typer.echo(f"timing {run}", err=True))
