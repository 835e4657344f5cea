"""`lossary import`: tables and logs that others made."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lossary.results.importers.maps import Maps
    from lossary.results.importers.model import Imported

__all__ = ["import_"]

_PASTED = "standard input"


def import_(
    files: Annotated[
        list[Path], typer.Argument(help="Files or folders; their kind is told by their content. `-` is standard input.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the imported tables.", show_default="the current folder")
    ] = Path(),
    name: Annotated[str | None, typer.Option(help="Title.", show_default="the first file's name")] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map", help="NAME=RUN:METRIC, NAME=DATASET:METRIC or NAME=ROLE, by the exact name; or FILE.toml."
        ),
    ] = None,
    save_map: Annotated[
        Path | None, typer.Option(help="Write how names were understood, to edit and give back with --map.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show how it is understood; write nothing.")] = False,
) -> None:
    """Read tables and logs that others made, for show, check, report and export.

    Known are tables (Markdown, CSV, HTML, Excel), TensorBoard, MLflow, W&B exports, transformers' trainer_state.json,
    Keras' CSVLogger, Lightning's metrics.csv, logs of Megatron, NeMo, fairseq, OLMo, Composer, nanoGPT and BERT, logs
    whose lines say a step or epoch and a loss, and scores of single examples: samples of lm-evaluation-harness
    (`--log_samples`) and logs of Inspect (`.eval`, `.json`).
    """
    from lossary.errors import UsageError
    from lossary.files import made_folder, write_atomic
    from lossary.reports.imports import import_text
    from lossary.results.importers.maps import map_text, parse_maps
    from lossary.results.importers.recognise import read_any
    from lossary.tables.imported import IMPORTED, save_import

    if save_map is not None and save_map.suffix != ".toml":
        raise UsageError("the map's name must end in .toml", where="--save-map", hint=f"{save_map}.toml")
    known = parse_maps(maps or [])
    found = [_pasted(known) if path == Path("-") else read_any(path, known) for path in files]
    known.check_all_used()
    for imported in found:
        typer.echo(import_text(imported), nl=False)
    if save_map is not None:
        with write_atomic(save_map) as temporary:
            temporary.write_text(map_text(found), encoding="utf-8")
        typer.echo(f"wrote {save_map}; edit it, then: lossary import … --map {shlex.quote(str(save_map))}")
    if dry_run:
        typer.echo("no table was written")
        return
    with made_folder(out):
        save_import(out, name or Path(found[0].path).stem, found)
    said = shlex.quote(str(out))
    typer.echo(f"wrote {out / IMPORTED}; now: lossary show {said}, lossary check {said}")


def _pasted(known: "Maps") -> "Imported":
    """What standard input holds."""
    import sys
    import tempfile
    from dataclasses import replace

    from lossary.errors import LossaryError
    from lossary.results.importers.lines import MOST_BYTES
    from lossary.results.importers.recognise import read_any

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stdin"
        path.write_bytes(sys.stdin.buffer.read(MOST_BYTES + 1))
        try:
            return replace(read_any(path, known), path=_PASTED)
        except LossaryError as error:
            # Nobody knows the file that it stands in meanwhile.
            where = None if error.where is None else error.where.replace(str(path), _PASTED)
            raise type(error)(error.message.replace(str(path), _PASTED), where=where, hint=error.hint) from None
