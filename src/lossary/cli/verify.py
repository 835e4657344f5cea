"""`lossary verify`: is every file what was written?"""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossary.cli.common import StudyArgument

if TYPE_CHECKING:
    from lossary.verify import VerifiedFile

__all__ = ["verify"]


def verify(
    study: StudyArgument = Path(),
    format: Annotated[str, typer.Option("--format", "-f", help="text or json.")] = "text",
) -> None:
    """Compare every file that carries numbers with its checksum, and say what to do with damaged ones.

    Exit code 3 if one is damaged.
    """
    import json

    from lossary.errors import UsageError
    from lossary.folder import StudyFolder
    from lossary.study_file import find_study_file
    from lossary.tables.imported import IMPORTED
    from lossary.verify import verify as verified

    if format not in ("text", "json"):
        raise UsageError(f"no format is called {format!r}", where="--format", hint="Known: text, json.")
    root = study if (study / IMPORTED).is_file() else find_study_file(study).parent
    files = list(verified(StudyFolder(root.resolve())))
    typer.echo(json.dumps(_value(files), indent=1, ensure_ascii=False) if format == "json" else _text(files))
    if any(file.state == "damaged" for file in files):
        raise typer.Exit(3)


def _counts(files: "list[VerifiedFile]") -> "dict[str, Counter[str]]":
    return {kind: Counter(file.state for file in files if file.kind == kind) for kind in {f.kind: None for f in files}}


def _value(files: "list[VerifiedFile]") -> dict[str, Any]:
    from lossary.verify import REMEDIES

    return {
        "schema": 1,
        "kinds": {kind: dict(counts) for kind, counts in _counts(files).items()},
        "damaged": [
            {"kind": file.kind, "path": str(file.path), "why": file.why, "remedy": REMEDIES[file.kind]}
            for file in files
            if file.state == "damaged"
        ],
        "without_checksum": [str(file.path) for file in files if file.state == "no checksum"],
    }


def _text(files: "list[VerifiedFile]") -> str:
    from lossary.verify import REMEDIES

    lines = []
    for kind, counts in _counts(files).items():
        told = [f"{counts[state]:,} {state}" for state in ("whole", "damaged", "no checksum") if counts[state]]
        lines.append(f"{kind + ':':12} {', '.join(told)}")
    for file in files:
        if file.state == "damaged":
            lines += ["", f"{file.path}: {file.why}", f"  What to do: {REMEDIES[file.kind]}."]
    if any(file.state == "no checksum" for file in files):
        lines += [
            "",
            "Files without a checksum were written by an earlier lossary; nobody can tell whether they changed.",
        ]
    return "\n".join(lines or ["There is nothing to verify yet."])
