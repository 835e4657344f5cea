"""`lossary report`: the page of a study."""

from pathlib import Path

import typer

from lossary.cli.common import RunsOption, StudyArgument

__all__ = ["report"]


def report(study: StudyArgument = Path(), runs: RunsOption = None) -> None:
    """Write report/report.md with findings, tables and charts, table.csv and table.json."""
    from lossary.findings.folder import check_table
    from lossary.reports.page import write_report
    from lossary.tables.load import open_table

    opened = open_table(study, runs=runs)
    typer.echo(f"wrote {write_report(opened, check_table(opened, where=str(study)))}")
