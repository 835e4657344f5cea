"""`lossary rank`: which run or checkpoint is best, and which may be."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import RunsOption, StudyArgument, check_format, echo_result

__all__ = ["rank"]


def rank(
    study: StudyArgument = Path(),
    runs: RunsOption = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="METRIC[:WEIGHTING]: the total that is ranked by.",
            show_default="the loss by validation share; bits a byte across vocabularies",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every scored checkpoint, instead of each run's newest.")
    ] = False,
    format: Annotated[str, typer.Option("--format", "-f", help="text or json.")] = "text",
) -> None:
    """Rank runs or checkpoints by a total: which may be best, and which differ by more than seeds do."""
    from lossary.api.functions import rank as rank_study
    from lossary.reports.ranking import print_ranking

    check_format(format)
    echo_result(rank_study(study, runs=runs, by=by, every_step=every), print_ranking, format)
