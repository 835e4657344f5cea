"""`lossary examples`: the examples that make the gap between two runs."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import StudyArgument, open_study

__all__ = ["examples"]


def examples(
    first: Annotated[str, typer.Argument(help="The run that the other one is compared with.")],
    second: Annotated[str, typer.Argument(help="The run whose losses are explained.")],
    dataset: Annotated[str, typer.Option(help="The dataset whose examples are shown.")],
    study: StudyArgument = Path(),
    worst: Annotated[int, typer.Option("--worst", "-n", min=1, max=10_000, help="How many examples.")] = 20,
    measure: Annotated[
        str | None, typer.Option(help="The objective whose loss is paired.", show_default="the first of both runs")
    ] = None,
    order: Annotated[
        str, typer.Option(help="What comes first: where the second run is `worse`, `better`, or differs `largest`.")
    ] = "worse",
    format: Annotated[str, typer.Option("--format", "-f", help="terminal, json or markdown.")] = "terminal",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File.", show_default="standard output")] = None,
) -> None:
    """Show the examples that make the gap: text, masked positions, and what each of two runs predicted there."""
    from typing import cast

    from lossary.errors import UsageError
    from lossary.files import write_atomic
    from lossary.reports.examples import FORMATS, GapView
    from lossary.tables.examples import ORDERS, Order, Pair, open_gap
    from lossary.tables.load import is_imported
    from lossary.tables.texts import open_texts, texts_of

    for option, value, known in (
        ("--format", format, list(FORMATS)),
        ("--order", order, ORDERS),
    ):
        if value not in known:
            raise UsageError(f"{value!r} is not known", where=option, hint=f"Known: {', '.join(known)}.")
    if is_imported(study):
        raise UsageError("imported numbers have no examples", where=str(study))
    opened = open_study(study)
    pair = Pair(first=first, second=second, dataset=dataset, measure=measure or "")
    gap = open_gap(opened.study, opened.folder, pair)
    rows = gap.page(cast("Order", order), limit=worst)
    view = GapView(
        gap=gap,
        order=cast("Order", order),
        rows=rows,
        texts=texts_of(partial(open_texts, opened.folder), dataset, rows),
    )
    text = FORMATS[format](view)
    if out is None:
        typer.echo(text, nl=False)
        return
    with write_atomic(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
