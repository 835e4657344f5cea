"""May two runs be subtracted? What is the same, what differs, what nobody knows.

Losses are of the same thing only on the same examples and masks, in the same pieces, summed the same way; a difference
that ignores this misleads, and is refused. What else differs (steps, tokens, shares, precision) does not forbid the
difference but may explain it, and is shown first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, Literal

from lossary.data.parts import read_run_record
from lossary.folder import StudyFolder
from lossary.results.records import read_steps
from lossary.study import NOT_OF_WEIGHTS, Study
from lossary.tables.begun import begun_of
from lossary.tables.model import RunColumn, Table

__all__ = [
    "IN_ONE_GO",
    "Check",
    "Comparability",
    "Setting",
    "bits_per_byte",
    "changed_since",
    "common_examples",
    "comparability",
    "differing_settings",
    "flat_settings",
    "drawn_examples",
    "realised_shares",
    "run_settings",
    "setting_text",
]

IN_ONE_GO = "in one go"
Verdict = Literal["same", "differs", "unknown"]
# A share that was drawn differs a little from another; more than this is another mixture.
_SHARE_TOLERANCE = 0.005


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that two runs have in common or not."""

    what: str
    verdict: Verdict
    first: str
    second: str
    forbids: bool  # whether losses cannot be subtracted unless it is the same


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting in which runs differ; values in the order of the runs."""

    name: str
    values: list[str]


@dataclass(frozen=True, kw_only=True)
class Comparability:
    """All checks of two runs."""

    checks: list[Check]

    @property
    def refused(self) -> list[Check]:
        """Why a difference of losses would mislead; empty if it would not."""
        return [check for check in self.checks if check.forbids and check.verdict == "differs"]

    @property
    def unknown(self) -> list[Check]:
        """What nobody recorded though a difference rests on it."""
        return [check for check in self.checks if check.forbids and check.verdict == "unknown"]


def comparability(
    first: tuple[Table, str, StudyFolder | None], second: tuple[Table, str, StudyFolder | None]
) -> Comparability:
    """Checks of two runs, each given as its table, its name and the folder it was trained in, if it was."""
    sides = (first, second)
    tables = [table for table, _, _ in sides]
    columns = [_column(table, run) for table, run, _ in sides]
    shares = [realised_shares(folder, run) if folder else None for _, run, folder in sides]
    trained = [None if folder is None else "none" for _, _, folder in sides]
    return Comparability(
        checks=[
            _check_examples(tables),
            _check("tokenizer", [_tokenizer(*side) for side in zip(tables, columns, strict=True)], forbids=True),
            _check("loss definition", [_loss_definition(table) for table in tables], forbids=True),
            _check("dropout at evaluation", trained, forbids=True),
            _check("precision", [column.precision for column in columns]),
            _check("step", [_count(column.step) for column in columns]),
            _check("tokens seen", [_count(column.tokens) for column in columns]),
            _check_shares(shares),
        ]
    )


def _column(table: Table, run: str) -> RunColumn:
    return next(column for column in table.runs if column.name == run)


def _tokenizer(table: Table, column: RunColumn) -> str | None:
    """The digest of the pieces that a run was trained with and scored on; None where only the latter is known."""
    if column.vocabulary_digest not in (None, table.tokenizer_digest):
        return column.vocabulary_digest
    return table.tokenizer_digest if column.tokenizer == "same" else None


def _loss_definition(table: Table) -> str | None:
    return None if table.is_imported else table.signature.rpartition("|ci:")[0]


def common_examples(first: Table, second: Table) -> list[str]:
    """Datasets of which both tables have the same frozen examples."""
    parts = {row.name: row.validation_digest for row in second.datasets}
    return [row.name for row in first.datasets if row.name in parts and row.validation_digest == parts[row.name]]


def _check_examples(tables: list[Table]) -> Check:
    first, second = tables
    found = _check("validation set", [table.validation_digest for table in tables], forbids=True)
    if found.verdict != "differs" or not (common := common_examples(first, second)):
        return found
    # Some datasets are enough to subtract: the others are left out.
    texts = []
    for table in tables:
        others = [row.name for row in table.datasets if row.name not in common]
        texts.append(", ".join(common) + (f"; its own of {', '.join(others)}" if others else ""))
    return Check(what=found.what, verdict="same", first=texts[0], second=texts[1], forbids=True)


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _check(what: str, values: list[str | None], *, forbids: bool = False) -> Check:
    first, second = values
    verdict: Verdict = "unknown" if first is None or second is None else "same" if first == second else "differs"
    return Check(what=what, verdict=verdict, first=first or "unknown", second=second or "unknown", forbids=forbids)


def _check_shares(shares: list[dict[str, float] | None]) -> Check:
    texts = [
        None if not share else ", ".join(f"{name} {100 * value:.1f} %" for name, value in sorted(share.items()))
        for share in shares
    ]
    found = _check("realised shares", texts)
    first, second = shares
    if first and second:
        names = {*first, *second}
        close = all(abs(first.get(name, 0.0) - second.get(name, 0.0)) <= _SHARE_TOLERANCE for name in names)
        return Check(**(vars(found) | {"verdict": "same" if close else "differs"}))
    return found


def realised_shares(folder: StudyFolder, run: str) -> dict[str, float]:
    """Shares of the examples that a run was trained on so far, by dataset; empty if it was not trained here."""
    counts = drawn_examples(folder, run)
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()}


def drawn_examples(folder: StudyFolder, run: str) -> dict[str, int]:
    """Examples that a run was trained on so far, by dataset; empty if it was not trained here."""
    steps = read_steps(folder.steps(run), ["dataset", "examples"])
    counts = steps.group_by("dataset").aggregate([("examples", "sum")]).to_pydict()
    return dict(zip(counts["dataset"], counts["examples_sum"], strict=True))


def differing_settings(records: Sequence[Mapping[str, Any]]) -> list[Setting]:
    """The settings in which runs differ, from their records; those that all share are not shown."""
    flat = [flat_settings(record) for record in records]
    keys = sorted({key for record in flat for key in record})
    return [
        Setting(name=key, values=[setting_text(record.get(key, "unknown")) for record in flat])
        for key in keys
        if any(record.get(key) != flat[0].get(key) for record in flat)
    ]


def run_settings(folder: StudyFolder, run: str) -> dict[str, Any]:
    """What a run was trained by: backend, size, datasets, recipe; empty if it was not trained here."""
    record = read_run_record(folder, run)
    if record is None:
        return {}
    found = {key: record[key] for key in ("backend", "size", "datasets", "recipe", "start") if key in record}
    return found | {"course": _course(record) or IN_ONE_GO}


def changed_since(study: Study, folder: StudyFolder, run: str) -> list[str]:
    """What the study file now says of a run that was trained by something else; more or fewer steps are its course."""
    before, settings = run_settings(folder, run), study.runs[run]
    if not before:
        return []
    recipe = study.recipe_of(run).model_dump(mode="json", exclude={*NOT_OF_WEIGHTS, "steps", "precision"})
    now = flat_settings({"backend": settings.backend, "size": settings.size_value, "recipe": recipe})
    was = now | {name: value for name, value in flat_settings(before).items() if name in now}
    return [f"{found.name} {found.values[0]}, not {found.values[1]}" for found in differing_settings([was, now])]


def _course(record: Mapping[str, Any]) -> str:
    """How a run came to its last step, in words, where that was not in one go; `record` is its `run.json`."""
    parts = []
    if start := record.get("start"):
        parts.append(f"began at step {start['step']:,} of {start['run']}")
    if course := begun_of(record).course:
        parts.append(course)
    return "; ".join(parts)


def flat_settings(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by the path of their keys, `optimizer.name`."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= flat_settings(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}": item}
    return found


def setting_text(value: Any) -> str:
    """A setting as a reader writes it: `a, b`, `true`, `none`."""
    if isinstance(value, list | tuple):
        return ", ".join(map(setting_text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def bits_per_byte(mlm_loss: float, *, tokens: int, bytes_: int) -> float | None:
    """Bits a byte of text: nats a masked piece × pieces a byte / ln 2. Comparable between tokenizers, unlike nats.

    The text is the same, and so is its number of bytes; a tokenizer with longer pieces has fewer, harder ones.
    """
    return mlm_loss * tokens / bytes_ / log(2) if bytes_ else None
