"""`lossary compare` in a terminal: comparable? which settings differ, and by how much, dataset by dataset."""

from rich.console import Console
from rich.markup import escape

from lossary.reports.equality import print_decisions
from lossary.reports.grids import titled_grid
from lossary.reports.terminal import print_table
from lossary.reports.text import metric_title, plain, short_count
from lossary.tables.comparison import Comparison
from lossary.tables.model import Table

__all__ = ["comparison_value", "own_mixture_text", "print_comparison"]

# Half a unit of the last digit shown.
_SMALLEST = 0.00005
_VERDICTS = {"same": "same", "differs": "[bold]differs[/]", "unknown": "unknown"}


def print_comparison(found: Comparison, console: Console) -> None:
    """Prints all parts in the order of a reader's questions."""
    _print_checks(found, console)
    if found.table is not None and found.table.is_imported:
        console.print("Nothing else is on record; the differences are of printed numbers, without intervals.")
    elif found.settings:
        grid = titled_grid("Settings that differ", ("setting", found.first, found.second))
        for setting in found.settings:
            grid.add_row(*(escape(plain(text)) for text in (setting.name, *setting.values)))
        console.print(grid)
    else:
        console.print("No setting on record differs.")
    if found.table is None:
        _print_bits(found, console)
        return
    if found.forced:
        console.print("[bold]Forced: these runs are not comparable; the differences below mislead.[/]")
    console.print()
    print_table(found.table, console)
    _print_power(found.table, console)
    _print_more(found, console)
    if found.margins:
        print_decisions(found.decisions, (found.first, found.second), found.margins, console)


def _print_checks(found: Comparison, console: Console) -> None:
    grid = titled_grid(f"{found.second} against {found.first}: comparable?", ("", "", "", ""))
    grid.show_header = False
    for check in found.checks.checks:
        values = (check.first,) if check.verdict == "same" else (check.first, check.second)
        grid.add_row(check.what, _VERDICTS[check.verdict], *(escape(plain(value)) for value in values))
    console.print(grid)
    for check in found.checks.refused:
        instead = "; bits a byte have one" if found.table is not None and not found.forced else ""
        text = f"Not comparable: another {check.what}. A difference of losses would mislead{instead}."
        console.print(text, style="bold")
    if found.checks.unknown:
        names = ", ".join(check.what for check in found.checks.unknown)
        console.print(f"Nobody recorded: {names}. The differences hold only if they are the same.")
    console.print()


def _print_bits(found: Comparison, console: Console) -> None:
    console.print()
    if not any(check.what == "tokenizer" for check in found.checks.refused):
        console.print("No difference is shown; --force shows it, labelled.")
        return
    grid = titled_grid(
        "Bits a byte of text instead (MLM, comparable between tokenizers)", ("dataset", found.first, found.second)
    )
    for name, values in found.bits_per_byte.items():
        grid.add_row(escape(plain(name)), *("—" if value is None else f"{value:.4f}" for value in values))
    console.print(grid)
    console.print("Of other examples and masks, so without a difference; --force shows losses subtracted, labelled.")


def _print_power(table: Table, console: Console) -> None:
    """How many examples the pairing saves."""
    rows = [d for d in table.deltas if d.dataset and d.metric in table.compared and d.examples_paired]
    if not rows:
        return
    console.print()
    grid = titled_grid(
        "Examples that would show a difference of this size (power 0.8)", ("", "", "had", "paired", "unpaired")
    )
    for delta in rows:
        names = (escape(plain(delta.dataset or "")), metric_title(delta.metric))
        counts = (delta.n, delta.examples_paired, delta.examples_unpaired)
        grid.add_row(*names, *(short_count(count) for count in counts))
    console.print(grid)


def _print_more(found: Comparison, console: Console) -> None:
    for name, estimate in found.bootstrap.items():
        if estimate.low is not None and estimate.high is not None:
            bounds = f"{estimate.value:+.4f}, 95 % {estimate.low:+.4f} to {estimate.high:+.4f}"
            console.print(f"bootstrap {escape(plain(name))}: {bounds}; {estimate.method}")
    if found.own_mixture is not None:
        console.print(escape(plain(own_mixture_text(found))))


def own_mixture_text(found: Comparison) -> str:
    """Each run on the mixture that it was trained on, and where the difference comes from; empty where unknown."""
    parts = found.own_mixture
    if parts is None:
        return ""
    shift, within = sum(parts.share_shift.values()), sum(parts.within.values())
    start = f"With datasets weighed as in each run's own training, the MLM loss of {found.second} is "
    if abs(parts.change) < _SMALLEST:
        return f"{start}that of {found.first}."
    text = f"{start}{abs(parts.change):.4f} {'higher' if parts.change > 0 else 'lower'} than that of {found.first}. "
    if abs(shift) < _SMALLEST:
        return text + "Both were trained on the same shares: all of it comes from the losses on the datasets."
    return text + f"Of this, {shift:+.4f} comes from other shares, {within:+.4f} from the losses on the datasets."


def comparison_value(found: Comparison) -> dict[str, object]:
    """The comparison as JSON."""
    from dataclasses import asdict

    from lossary.reports.export import json_value

    return {
        "first": found.first,
        "second": found.second,
        "comparable": not found.checks.refused,
        "forced": found.forced,
        "checks": [asdict(check) for check in found.checks.checks],
        "settings": [asdict(setting) for setting in found.settings],
        "bits_per_byte": {name: list(values) for name, values in found.bits_per_byte.items()},
        "own_mixture": asdict(found.own_mixture) if found.own_mixture else None,
        "bootstrap": {name: asdict(estimate) for name, estimate in found.bootstrap.items()},
        "margins": dict(found.margins),
        "decisions": [asdict(decision) for decision in found.decisions],
        "table": json_value(found.table) if found.table else None,
    }
