"""`lossary export`: the table as data."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import RunsOption, StepOption, StudyArgument

__all__ = ["export"]

FORMATS = ("json", "csv", "parquet", "latex", "markdown")


def export(
    study: StudyArgument = Path(),
    runs: RunsOption = None,
    step: StepOption = None,
    format: Annotated[str, typer.Option("--format", "-f", help="json, csv, parquet, latex or markdown.")] = "json",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File.", show_default="standard output")] = None,
) -> None:
    """Write the table with all it takes to trust its numbers: intervals, counts, digests, reasons."""
    import json

    from lossary.errors import UsageError
    from lossary.files import write_atomic
    from lossary.reports.export import csv_text, json_value, latex_text, parquet_table
    from lossary.reports.markdown import markdown_table
    from lossary.tables.best import parse_step
    from lossary.tables.load import open_table

    if format not in FORMATS:
        raise UsageError(f"no format is called {format!r}", where="--format", hint=f"Known: {', '.join(FORMATS)}.")
    if format == "parquet" and out is None:
        raise UsageError("Parquet needs a file", where="--format parquet", hint="Give one with --out.")
    table = open_table(study, runs=runs, step=parse_step(step)).table
    if format == "parquet" and out is not None:
        import pyarrow.parquet as pq

        with write_atomic(out) as temporary:
            pq.write_table(parquet_table(table), temporary)
        return
    writers = {
        "json": lambda: json.dumps(json_value(table), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "csv": lambda: csv_text(table),
        "latex": lambda: latex_text(table),
        "markdown": lambda: markdown_table(table, [run.name for run in table.runs]) + "\n",
    }
    text = writers[format]()
    if out is None:
        typer.echo(text, nl=False)
        return
    with write_atomic(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
