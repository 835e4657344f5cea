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
    out: Annotated[str | None, typer.Option("--out", "-o", help="File.", show_default="standard output")] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="A tracker: tensorboard, mlflow or wandb gets every scored step; --out is its folder, or MLflow's URI."
        ),
    ] = None,
) -> None:
    """Write the table with all it takes to trust its numbers: intervals, counts, digests, reasons."""
    import json

    if to is not None:
        typer.echo(_track(study, runs, step, to, out))
        return
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
    file = None if out is None else Path(out)
    if format == "parquet" and file is not None:
        import pyarrow.parquet as pq

        with write_atomic(file) as temporary:
            pq.write_table(parquet_table(table), temporary)
        return
    writers = {
        "json": lambda: json.dumps(json_value(table), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "csv": lambda: csv_text(table),
        "latex": lambda: latex_text(table),
        "markdown": lambda: markdown_table(table, [run.name for run in table.runs]) + "\n",
    }
    text = writers[format]()
    if file is None:
        typer.echo(text, nl=False)
        return
    with write_atomic(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _track(study: Path, runs: list[str] | None, step: str | None, to: str, out: str | None) -> str:
    from lossary.errors import UsageError
    from lossary.integrations.series import tracked_runs

    if step is not None:
        raise UsageError("a tracker gets every scored step", where="--step", hint="Leave --step or --to out.")
    if to not in ("tensorboard", "mlflow", "wandb"):
        raise UsageError(f"no tracker is called {to!r}", where="--to", hint="Known: tensorboard, mlflow, wandb.")
    if out is None and to != "mlflow":
        raise UsageError(f"{to} needs a folder", where="--to", hint="Give one with --out.")
    found = tracked_runs(study, runs=runs)
    if to == "tensorboard":
        from lossary.integrations.tensorboard import write_tensorboard as write
    elif to == "mlflow":
        from lossary.integrations.mlflow import write_mlflow as write
    else:
        from lossary.integrations.wandb import write_wandb as write
    return write(found, out or "")
