"""Studies at URLs, for the verbs: each is given a folder of this machine that stands for one."""

from pathlib import Path
from typing import Any

import typer

from lossary.cli.boundary import say_instead

__all__ = ["followed_studies", "given_study", "study_at_hand"]

# By verb: how it uses a study, and what of it; all others read what tables are made of.
_WORK, _ALL, _SCORING = "WORK", "ALL", "SCORING"
_WRITING = {
    **dict.fromkeys(("run", "prepare", "train"), _WORK),
    **dict.fromkeys(("add", "mv", "rm"), _WORK),
    "evaluate": _SCORING,
    "diagnose": _WORK,
    "report": "TABLES",
}
_READING = {"plan": _WORK, "verify": _ALL}


def given_study(text: Any) -> Any:
    """What the command line says: a URL stays text, anything else is a path."""
    from lossary.remote.addresses import is_url

    return text if isinstance(text, str) and is_url(text) else Path(text)


def study_at_hand(ctx: typer.Context, study: Any) -> Any:
    """The path of a study, for as long as the command lasts."""
    if not isinstance(study, str) or ctx.resilient_parsing:
        return study
    from lossary.remote.addresses import Use, local_study
    from lossary.remote.wants import Wants

    verb = str(ctx.info_name)
    writes = verb in _WRITING or ctx.params.get("write", False)
    use = Use.WRITE if writes else Use.FOLLOW if verb in ("watch", "serve") else Use.READ
    wants = Wants[(_WRITING | _READING).get(verb, "TABLES")]
    root = ctx.with_resource(local_study(study, use, wants, doing=verb, note=_note))
    if use is not Use.WRITE:
        # Of one that is written the folder is worth knowing: a page is opened there.
        say_instead(str(root), study.rstrip("/"))
    return root


def followed_studies(ctx: typer.Context, studies: Any) -> Any:
    """As `study_at_hand`, of a list."""
    return studies if studies is None else [study_at_hand(ctx, study) for study in studies]


def _note(text: str) -> None:
    typer.echo(f"lossary: {text}", err=True)
