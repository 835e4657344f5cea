"""`lossary import`: tables and logs that others made."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["import_"]


def import_(
    files: Annotated[list[Path], typer.Argument(help="Files or folders; their kind is told by their content.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the imported tables.", show_default="the current folder")
    ] = Path(),
    name: Annotated[str | None, typer.Option(help="Title.", show_default="the first file's name")] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", help="NAME=RUN:METRIC, NAME=DATASET:METRIC or NAME=ROLE, by the exact name."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show how it is understood; write nothing.")] = False,
) -> None:
    """Read tables and logs that others made, for show, check, report and export.

    Known are Markdown and CSV tables, TensorBoard, MLflow, W&B exports, transformers' trainer_state.json, Keras'
    CSVLogger, Megatron and fairseq logs.
    """
    from lossary.reports.imports import import_text
    from lossary.results.importers.maps import parse_maps
    from lossary.results.importers.recognise import read_any
    from lossary.tables.imported import IMPORTED, save_import

    known = parse_maps(maps or [])
    found = [read_any(path, known) for path in files]
    for imported in found:
        typer.echo(import_text(imported), nl=False)
    if dry_run:
        typer.echo("nothing was written")
        return
    out.mkdir(parents=True, exist_ok=True)
    save_import(out, name or files[0].stem, found)
    typer.echo(f"wrote {out / IMPORTED}; now: lossary show {out}, lossary check {out}")
