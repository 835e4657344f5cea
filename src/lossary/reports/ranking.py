"""A ranking in a terminal and as JSON: what may be best, and what the noise of training covers."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from lossary.reports.grids import titled_grid
from lossary.reports.text import ESTIMAND, metric_title, number, plain
from lossary.statistics.components import Component
from lossary.statistics.estimates import LEVEL
from lossary.tables.ranking import Candidate, Ranking

__all__ = [
    "components_rows",
    "seed_noise_rows",
    "seed_noise_sentence",
    "EXCEEDS",
    "worse_text",
    "floor_sentence",
    "print_ranking",
    "ranking_sentence",
    "recipes_sentence",
    "ranking_value",
]

# The smallest number that four digits show.
_SHOWN = 5e-5
EXCEEDS = {True: "yes", False: "no", None: ""}


def print_ranking(found: Ranking, console: Console) -> None:
    """All candidates, best first; configurations where runs have repeats; then what it means."""
    console.print(_candidates(found))
    if found.configurations:
        console.print()
        console.print(_configurations(found))
    console.print()
    console.print(escape(ranking_sentence(found)), style="bold", soft_wrap=True)
    _print_components(found, console)
    if recipes := recipes_sentence(found):
        console.print(escape(recipes), soft_wrap=True)
    console.print(escape(floor_sentence(found)), soft_wrap=True)
    for note in found.notes:
        console.print(escape(f"note: {plain(note)}"), soft_wrap=True)


def _candidates(found: Ranking) -> Grid:
    metric = found.criterion.metric
    headings = ["run", "step", metric_title(metric), "worse than the best, 95 % at once", "may be best"]
    headings += ["more than seeds"] if found.floor else []
    grid = titled_grid(f"By {found.criterion}", headings, right=headings[1:])
    for candidate in found.candidates:
        cells = [
            escape(plain(candidate.run)),
            "—" if candidate.step is None else f"{candidate.step:,}",
            number(candidate.value, metric),
        ]
        cells += [worse_text(candidate), "●" if candidate.may_be_best else ""]
        grid.add_row(*cells, *([EXCEEDS[candidate.exceeds_noise]] if found.floor else []))
    return grid


def worse_text(candidate: Candidate) -> str:
    """How much worse than the best one seen, with its interval; empty of that one."""
    if candidate.worse is None:
        return "no difference: see the note" if candidate.reason else ""
    if candidate.low is None or candidate.high is None:
        return f"{candidate.worse:.4f}"
    if max(map(abs, (candidate.worse, candidate.low, candidate.high))) < _SHOWN:
        return "="
    return f"{candidate.worse:.4f}  [{candidate.low:.4f}, {candidate.high:.4f}]"


def _configurations(found: Ranking) -> Grid:
    metric = found.criterion.metric
    headings = ("runs", metric_title(metric), "worse", "more than seeds")
    grid = titled_grid("Configurations, means over seeds", headings, right=headings[1:])
    for configuration in found.configurations:
        names = ", ".join(map(plain, configuration.runs))
        worse = f"{configuration.worse:.4f}" if configuration.worse else ""
        grid.add_row(escape(names), number(configuration.value, metric), worse, EXCEEDS[configuration.exceeds_noise])
    return grid


def _print_components(found: Ranking, console: Console) -> None:
    if not found.components:
        return
    headings = ("what moves", "seeds", "configurations", "examples")
    grid = titled_grid("Standard deviations of one number, 95 %", headings, right=headings[1:])
    for row in components_rows(found):
        grid.add_row(*map(escape, row))
    console.print(grid)
    if rows := seed_noise_rows(found):
        of_seeds = titled_grid("Between runs of one configuration, total", ("runs", "repeats", "deviation, 95 %"))
        for noise in rows:
            of_seeds.add_row(*map(escape, noise))
        console.print(of_seeds)
    if sentence := seed_noise_sentence(found):
        console.print(escape(sentence), soft_wrap=True)


def ranking_sentence(found: Ranking) -> str:
    """Which may be best, in one sentence."""
    names = [plain(candidate.name) for candidate in found.candidates if candidate.may_be_best]
    measured = f"by {found.criterion}"
    if len(names) == 1:
        return f"{names[0]} is the best of {len(found.candidates)}, {measured}. {ESTIMAND}"
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return f"{len(names)} of {len(found.candidates)} may be the best, {measured}: {shown}. {ESTIMAND}"


def components_rows(found: Ranking) -> list[tuple[str, str, str, str]]:
    """By dataset and in total: how far seeds, configurations and examples move a number (standard deviations)."""

    def shown(part: Component | None) -> str:
        return "—" if part is None else f"{part.deviation:.4f}  [{part.low:.4f}, {part.high:.4f}]"

    return [
        (
            "total" if row.dataset is None else plain(row.dataset),
            shown(row.found.seeds),
            shown(row.found.configurations),
            f"{row.found.examples:.4f}",
        )
        for row in found.components
    ]


def seed_noise_rows(found: Ranking) -> list[tuple[str, str, str]]:
    """Of the total by configuration: its runs, how many, and how far they lie apart (standard deviation)."""
    if len(found.components) == 0 or len(found.components[-1].configurations) < 2:
        return []
    row = found.components[-1]
    return [
        (
            ", ".join(map(plain, runs)),
            str(noise.repeats),
            "a single run: not known"
            if noise.deviation is None
            else f"{noise.deviation:.4f}  [{noise.low:.4f}, {noise.high:.4f}]",
        )
        for runs, noise in zip(row.configurations, row.found.groups, strict=True)
    ]


def seed_noise_sentence(found: Ranking) -> str:
    """Whether seeds move configurations differently, and by which datasets; empty where that is not asked."""
    asked = [(row, row.found.p_alike) for row in found.components if row.found.p_alike is not None]
    if not asked:
        return ""
    # Bonferroni over datasets and the total.
    shown = [row.dataset or "the total" for row, p in asked if (p or 0.0) * len(asked) < 1 - LEVEL]
    if shown:
        return f"Seeds move some configurations more than others: on {', '.join(map(plain, shown))}."
    least = asked[-1][0].found.least_ratio
    return (
        "Seeds are not shown to move one configuration more than another; with these repeats, of two of them only a "
        f"ratio beyond {least:.1f} would be."
    )


def recipes_sentence(found: Ranking) -> str:
    """Which configurations the noise of training does not tell apart from the best one; empty without repeats."""
    if not found.configurations:
        return ""
    open_ones = [c for c in found.configurations[1:] if not c.exceeds_noise]
    best = " + ".join(map(plain, found.configurations[0].runs))
    if not open_ones:
        return f"Of {len(found.configurations)} recipes that of {best} is the best by more than seeds do."
    names = "; ".join(" + ".join(map(plain, c.runs)) for c in open_ones[:6])
    more = f" and {len(open_ones) - 6} more" if len(open_ones) > 6 else ""
    return f"Recipes are not ranked where seeds explain the difference: {best} is not told apart from {names}{more}."


def floor_sentence(found: Ranking) -> str:
    floor = found.floor
    if floor is None:
        return "No two runs differ in their seed alone: how much another seed would change is not known."
    plural = "" if floor.groups == 1 else "s"
    spread = f"standard deviation, 95 %: {floor.low:.4f} to {floor.high:.4f}"
    known = f"{floor.groups} configuration{plural}, {floor.degrees} degrees of freedom"
    least = f"two single runs are told apart only beyond {floor.least_difference():.4f}"
    return f"Seeds move it by {floor.deviation:.4f} ({spread}; {known}): {least}."


def ranking_value(found: Ranking) -> dict[str, Any]:
    """The ranking as JSON."""
    return {
        "metric": found.criterion.metric,
        "weighting": found.criterion.weighting,
        "datasets": found.datasets,
        "candidates": [asdict(c) for c in found.candidates],
        "configurations": [asdict(c) for c in found.configurations],
        "components": [asdict(c) for c in found.components],
        "noise_floor": None if found.floor is None else asdict(found.floor),
        "says": list(
            filter(
                None,
                [ranking_sentence(found), recipes_sentence(found), seed_noise_sentence(found), floor_sentence(found)],
            )
        ),
        "notes": found.notes,
    }
