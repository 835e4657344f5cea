"""`lossary demo`: a whole study on text that every Python carries."""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossary.cli.common import ProgressOption, QuietOption

if TYPE_CHECKING:
    from lossary.cli.progress import AnyListener, Listening

__all__ = ["demo"]

# Steps of each run that are timed, after a first one: their median does not mind one that is interrupted.
_TIMED = 20


def demo(
    what: Annotated[
        str, typer.Argument(help="`table`: three runs and their page; `why`: a script with a fault, and its cause.")
    ] = "table",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the study.", show_default="lossary-demo[-why]")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Runs at the same time.", show_default="3, or the cores")
    ] = None,
    progress: ProgressOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train and score three small models and print their table; or find what is wrong with a script.

    The first time it times some steps here, and trains as many as end within five minutes.
    """
    from lossary.cli.demo_why import demo_why
    from lossary.cli.progress import listener_of
    from lossary.errors import UsageError

    if what not in ("table", "why"):
        raise UsageError(f"no demo is called {what!r}", hint="There are `table` and `why`.")
    if what == "why":
        demo_why(out or Path("lossary-demo-why"), lambda: listener_of(progress, quiet=quiet))
    else:
        _demo_table(out or Path("lossary-demo"), jobs, lambda: listener_of(progress, quiet=quiet))


def _demo_table(out: Path, jobs: int | None, listening: "Listening") -> None:
    import os
    import time

    from lossary import pipeline
    from lossary.cli.common import open_study
    from lossary.cli.demo_steps import FULL, has_choice

    began = time.monotonic()
    path = _study_file(out)
    # Models this small use one core each best.
    at_once = jobs or min(3, os.cpu_count() or 1)
    expected = None
    with listening() as listener:
        if not has_choice(path.read_text(encoding="utf-8")) and not any((out / "runs").glob("*/run.json")):
            expected = _choose_steps(out, at_once, began, listener)
        opened = open_study(out)
        page = pipeline.run_study(
            opened.study, opened.folder, settings=pipeline.Settings(jobs=at_once), listener=listener
        )
    assert page is not None, "the demo has runs"
    typer.echo(page.terminal)
    if opened.study.recipe.steps < FULL:
        typer.echo(
            f"{opened.study.recipe.steps:,} of {FULL:,} steps fit into the time: ≈ and ▲ mark what is not learned"
        )
    took = f"took {_minutes(time.monotonic() - began)} minutes"
    typer.echo(took if expected is None else f"{took}; {_minutes(expected)} were expected")
    typer.echo(f"wrote {page.path}; the study is {path}")


def _study_file(out: Path) -> Path:
    """The demo's study file, written unless it is there; UsageError if another one is."""
    from lossary.cli.demo_steps import fits
    from lossary.errors import UsageError
    from lossary.files import write_atomic

    path = out / "study.toml"
    if not path.is_file():
        with write_atomic(path) as temporary:
            temporary.write_text(_template(), encoding="utf-8")
    elif not fits(path.read_text(encoding="utf-8"), _template()):
        raise UsageError("the folder holds another study", where=str(path), hint="Choose another folder with --out.")
    return path


def _template() -> str:
    return files("lossary.cli").joinpath("demo.toml").read_text(encoding="utf-8")


def _choose_steps(out: Path, at_once: int, began: float, listener: "AnyListener") -> float:
    """Times some steps of each run and writes how many fit into the study file; the seconds that are expected."""
    import time

    from lossary import pipeline
    from lossary.cli.common import open_study
    from lossary.cli.demo_steps import choose, with_choice
    from lossary.files import write_atomic

    study, folder = open_study(out)
    pipeline.prepare(study, folder, listener=listener)
    listener.note(f"timing {_TIMED} steps of each run")
    times = pipeline.time_steps(study, folder, steps=_TIMED, jobs=at_once, listener=listener)
    choice = choose(times, at_once=at_once, spent_s=time.monotonic() - began)
    with write_atomic(out / "study.toml") as temporary:
        temporary.write_text(with_choice(_template(), choice), encoding="utf-8")
    listener.note(f"{choice.steps:,} steps, about {_minutes(choice.total_s)} minutes in all: {choice.why}")
    return choice.total_s


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
