"""`lossary report`: the page of a study."""

from pathlib import Path

import typer

from lossary.cli.common import RunsOption, StudyArgument, open_study

__all__ = ["report"]


def report(study: StudyArgument = Path(), runs: RunsOption = None) -> None:
    """Write report/report.md with its charts, table.csv and table.json."""
    from lossary.reports.page import write_report
    from lossary.tables.build import build_table

    opened = open_study(study)
    path = write_report(opened.study, opened.folder, build_table(opened.study, opened.folder, runs=runs))
    typer.echo(f"wrote {path}")
