"""What a person decides by: what may be best, what stopped early, what shares do; empty where nothing is to say."""

from collections.abc import Sequence
from dataclasses import dataclass

from lossary.errors import LossaryError
from lossary.reports.html.charts.intervals import Interval, intervals_spec
from lossary.reports.html.charts.theme import ChartView, DataTable
from lossary.reports.html.marks import marks_of
from lossary.reports.mixture import effect_text
from lossary.reports.ranking import (
    EXCEEDS,
    components_rows,
    floor_sentence,
    ranking_sentence,
    recipes_sentence,
    seed_noise_rows,
    seed_noise_sentence,
    worse_text,
)
from lossary.reports.sequential import by_run, rule_text, sequential_text
from lossary.reports.text import TOTAL, metric_title, number, plain
from lossary.tables.load import OpenTable
from lossary.tables.mixture import Mixtures, ShareEffect, mixtures, other_differences, shares_of_runs
from lossary.tables.model import SequentialAnswer, Table, measure_of
from lossary.tables.ranked_table import rank_table
from lossary.tables.ranking import Ranking

__all__ = ["DecisionsView", "decisions_view"]

# Two runs are compared, not ranked.
_FEWEST = 3
# Candidates of which a chart still fits a screen; the table has all.
_MOST_CANDIDATES, _MOST_EFFECTS = 30, 40


@dataclass(frozen=True, kw_only=True)
class RankingView:
    """Candidates, best first: run, step, value, how much worse, may be best, more than seeds; configurations alike."""

    sentence: str
    recipes: str
    floor: str
    by: str
    chart: ChartView | None
    has_floor: bool
    rows: list[tuple[str, str, str, str, bool, str]]
    configurations: list[tuple[str, str, str, str]]
    components: list[tuple[str, str, str, str]]  # number; by seeds, configurations, examples
    seed_noise: list[tuple[str, str, str]]  # runs, repeats, deviation
    alike: str
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class StopRow:
    """A dataset: how many of its frozen examples were looked at, and what they answer."""

    dataset: str
    part: float
    examples: str
    value: str
    interval: str
    answer: str
    is_answered: bool


@dataclass(frozen=True, kw_only=True)
class StopView:
    """A run that was decided early."""

    title: str
    saved: str
    rule: str
    chart: ChartView | None
    rows: list[StopRow]


@dataclass(frozen=True, kw_only=True)
class EffectsView:
    """What shares do; without rows `notes` say what cannot be said."""

    title: str
    chart: ChartView | None
    rows: list[tuple[str, str, str, str]]  # dataset, its own share doubled, error on runs left out, of their mean
    others: list[tuple[str, str, str]]  # loss of, share doubled, change
    suggestions: list[tuple[str, str, str]]  # why, shares, expected total
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class DecisionsView:
    """The whole section."""

    ranking: RankingView | None
    stops: list[StopView]
    effects: EffectsView | None

    @property
    def says_something(self) -> bool:
        return bool(self.ranking or self.stops or self.effects)

    @property
    def charts(self) -> list[ChartView]:
        owners = [self.ranking, *self.stops, self.effects]
        return [owner.chart for owner in owners if owner is not None and owner.chart is not None]


def decisions_view(opened: OpenTable) -> DecisionsView:
    """The section of an opened table."""
    table = opened.table
    return DecisionsView(
        ranking=_ranking(opened),
        stops=[_stop(place, rows) for place, rows in enumerate(by_run(table.sequential))],
        effects=_effects(opened),
    )


def _ranking(opened: OpenTable) -> RankingView | None:
    """None of two runs without repeats, and where nothing is paired: printed numbers have no intervals."""
    table = opened.table
    if len(table.runs) < _FEWEST and not table.seed_spreads:
        return None
    try:
        found = rank_table(opened)
    except LossaryError:
        return None
    if len(found.candidates) < _FEWEST and found.floor is None:
        return None
    metric = found.criterion.metric
    return RankingView(
        sentence=ranking_sentence(found),
        recipes=recipes_sentence(found),
        floor=floor_sentence(found) if opened.study is not None else "",
        by=str(found.criterion),
        chart=_ranking_chart(table, found),
        has_floor=found.floor is not None,
        rows=[
            (
                plain(c.run),
                "—" if c.step is None else f"{c.step:,}",
                number(c.value, metric),
                worse_text(c) or "the best one seen",
                c.may_be_best,
                EXCEEDS[c.exceeds_noise],
            )
            for c in found.candidates
        ],
        configurations=[
            (
                ", ".join(map(plain, c.runs)),
                number(c.value, metric),
                f"{c.worse:.4f}" if c.worse else "",
                EXCEEDS[c.exceeds_noise],
            )
            for c in found.configurations
        ],
        components=components_rows(found),
        seed_noise=seed_noise_rows(found),
        alike=seed_noise_sentence(found),
        notes=[plain(note) for note in found.notes],
    )


def _ranking_chart(table: Table, found: Ranking) -> ChartView | None:
    rows = []
    for candidate in found.candidates[:_MOST_CANDIDATES]:
        name = plain(candidate.run)
        means = "may be best" if candidate.may_be_best else "shown to be worse"
        if candidate.worse is not None:
            low, high = candidate.low, candidate.high
            rows.append(Interval(name, candidate.worse, low, high, candidate.may_be_best, means, name))
        elif candidate.reason is None:
            rows.append(Interval(name, 0.0, None, None, filled=True, means="the best one seen", run=name))
    if len(rows) < 2:
        return None
    marks = {plain(name): mark for name, mark in marks_of([run.name for run in table.runs]).items()}
    metric = found.criterion.metric
    return ChartView(
        id="ranking",
        title=f"{metric_title(metric)}: worse than the best one seen by",
        about=f"Worse than the best run by {found.criterion}; filled: may be best; all at once at 95 %",
        spec=intervals_spec(rows, title=f"worse by, {measure_of(metric).unit}", marks=marks),
        data=_numbers("run", rows),
    )


def _numbers(first: str, rows: Sequence[Interval]) -> DataTable:
    def written(value: float | None) -> str:
        return "—" if value is None else f"{value:+.4f}"

    return DataTable(
        columns=[first, "value", "low", "high", "answer"],
        rows=[[row.name, *map(written, (row.value, row.low, row.high)), row.means] for row in rows],
    )


def _stop(place: int, answers: Sequence[SequentialAnswer]) -> StopView:
    first, total = answers[0], answers[-1]
    asked = "does it differ?" if first.margin is None else f"equal within {first.margin:g}?"
    rows = [
        Interval(_place(a), a.value, a.low, a.high, a.answer != "undecided", sequential_text(a))
        for a in answers
        if a.value is not None
    ]
    title = f"{plain(first.run)} − {plain(first.base)}: {asked}"
    chart = None
    if rows:
        chart = ChartView(
            id=f"stop-{place}",
            title=f"{metric_title(first.metric)}, difference at the stop",
            about=f"{plain(first.run)} against {plain(first.base)} where each dataset stopped; filled: decided",
            spec=intervals_spec(rows, title=f"difference, {first.unit} (left: lower)"),
            data=_numbers("dataset", rows),
        )
    left = total.available - total.examples
    return StopView(
        title=title,
        saved=f"step {first.step:,}: {total.examples:,} of {total.available:,} frozen examples were looked at"
        + (f", {left / total.available:.0%} were not needed" if left else ""),
        rule=rule_text(first),
        chart=chart,
        rows=[
            StopRow(
                dataset=_place(a),
                part=a.examples / a.available if a.available else 0.0,
                examples=f"{a.examples:,} of {a.available:,}",
                value="—" if a.value is None else f"{a.value:+.4f}",
                interval="—" if a.low is None or a.high is None else f"[{a.low:+.4f}, {a.high:+.4f}]",
                answer=plain(sequential_text(a)),
                is_answered=a.answer != "undecided",
            )
            for a in answers
        ],
    )


def _place(answer: SequentialAnswer) -> str:
    return TOTAL if answer.dataset is None else plain(answer.dataset)


def _effects(opened: OpenTable) -> EffectsView | None:
    """None where all runs were trained on one mixture, or nobody says on which."""
    table, study, folder = opened
    if study is None:
        return None
    names = [run.name for run in table.runs]
    shares = shares_of_runs(folder, names)
    differing = {tuple(sorted((name, round(share, 6)) for name, share in of.items())) for of in shares.values()}
    if len(differing) < 2:
        return None
    title = f"{metric_title(table.main_loss)} by the shares that runs were trained with"
    try:
        found = mixtures(table, shares, other_settings=other_differences(folder, list(shares)))
    except LossaryError as error:
        why = f"What shares do cannot be said yet: {error.message}."
        return EffectsView(title=title, chart=None, rows=[], others=[], suggestions=[], notes=[plain(why)])
    return _fitted(table, found, title)


def _fitted(table: Table, found: Mixtures, title: str) -> EffectsView:
    own: dict[str | None, ShareEffect] = {e.dataset: e for e in found.effects if e.share == e.dataset}
    total = TOTAL if found.weighting == "validation_share" else "total macro"
    others = [e for e in found.effects if e.share != e.dataset and (e.shown or e.dataset is None)]
    others.sort(key=lambda effect: (effect.dataset is not None, -abs(effect.value)))
    rows: list[tuple[str, str, str, str]] = []
    for fitted in found.fits:
        effect = own.get(fitted.dataset)
        said = fitted.reason or ("see below" if effect is None else effect_text(effect))
        error, mean = ("—" if value is None else f"{value:.4f}" for value in (fitted.error, fitted.mean_error))
        rows.append((total if fitted.dataset is None else plain(fitted.dataset), plain(said), error, mean))
    return EffectsView(
        title=title,
        chart=_effects_chart(table, list(own.values())),
        rows=rows,
        others=[
            (total if e.dataset is None else plain(e.dataset), plain(e.share), effect_text(e))
            for e in others[:_MOST_EFFECTS]
        ],
        suggestions=[
            (
                s.why,
                ", ".join(f"{plain(name)} {share:.1%}" for name, share in s.shares.items() if share >= 0.0005),
                "—" if s.total is None or s.low is None else f"{s.total:.4f}  [{s.low:.4f}, {s.high:.4f}]",
            )
            for s in found.suggestions
        ],
        notes=[plain(note) for note in found.notes],
    )


def _effects_chart(table: Table, effects: Sequence[ShareEffect]) -> ChartView | None:
    if not effects:
        return None
    rows = [
        Interval(
            plain(e.share), e.value, e.low, e.high, e.shown, "an effect is shown" if e.shown else "no effect is shown"
        )
        for e in sorted(effects, key=lambda effect: effect.value)[:_MOST_EFFECTS]
    ]
    return ChartView(
        id="share-effects",
        title="What doubling its own share changes",
        about="Change of the loss of each dataset when its own share doubles; filled: the interval leaves out 0",
        spec=intervals_spec(rows, title=f"change, {measure_of(table.main_loss).unit} (left: lower)"),
        data=_numbers("dataset", rows),
    )
