"""`lossary watch`: tells when a rule fires on a running study."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossary.cli.common import StudyArgument

if TYPE_CHECKING:
    from lossary.findings.model import Severity

__all__ = ["watch"]


def watch(
    study: StudyArgument = Path(),
    on: Annotated[
        list[str] | None,
        typer.Option(
            "--on", help="Rules by code, or all; may be given several times.", show_default="the course of training"
        ),
    ] = None,
    fail_on: Annotated[str, typer.Option(help="From this severity on: error, warning or info.")] = "warning",
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between looks.")] = 5.0,
) -> None:
    """Watch a running study: print what is scored, and exit with 1 as soon as a rule fires; with 0 when it ends."""
    from typing import cast

    from lossary.errors import UsageError
    from lossary.findings.rules import RULES
    from lossary.watching import COURSE
    from lossary.watching import watch as watch_study

    if fail_on not in ("error", "warning", "info"):
        raise UsageError(f"no severity is called {fail_on!r}", where="--fail-on", hint="Known: error, warning, info.")
    known = {key: rule.code for rule in RULES for key in (rule.code, rule.name)} | {"all": ""}
    unknown = [name for name in on or [] if name not in known]
    if unknown:
        raise UsageError(f"no rule is called {unknown[0]!r}", where="--on", hint="See `lossary check`, or give all.")
    rules = [known[name] for name in on] if on else COURSE
    fired = False
    for event in watch_study(study, rules=rules, severity=cast("Severity", fail_on), every_s=every):
        typer.echo(event.text)
        fired = fired or event.kind == "fired"
    if fired:
        raise typer.Exit(1)
