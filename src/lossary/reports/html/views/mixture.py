"""The mixture: shares planned and realised, shares of validation and of the loss, epochs of each dataset."""

from dataclasses import dataclass
from typing import Any

from lossary.data.shards import MANIFEST
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.reports.html.charts.bars import shares_spec
from lossary.reports.html.charts.theme import ChartView, DataTable
from lossary.reports.html.limits import largest_datasets
from lossary.reports.html.links import Ids
from lossary.reports.text import percent, plain, safe_link, short_count
from lossary.results.records import read_steps
from lossary.study import Study
from lossary.tables.begun import own_mixtures
from lossary.tables.load import OpenTable
from lossary.tables.model import Table

__all__ = ["MixtureView", "mixture_view"]

_MOST_DATASETS = 60


@dataclass(frozen=True, kw_only=True)
class MixtureRow:
    """A dataset; `realised` are share and epochs by run."""

    id: str
    name: str
    link: str | None
    rows: str
    planned: str
    validation: str
    of_loss: str
    realised: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class MixtureView:
    """The whole section; `loss_of` is the run whose loss is shared out. An import may know nothing of a mixture."""

    is_known: bool

    loss_of: str | None
    runs: list[str]
    rows: list[MixtureRow]
    chart: ChartView | None
    note: str


def mixture_view(opened: OpenTable, ids: Ids) -> MixtureView:
    """The section of an opened table; what an imported page does not say is `—`."""
    table, study, folder = opened
    seen = {} if study is None else _seen(table, folder)
    loss_of = _shared_run(table)
    of_loss = {} if loss_of is None else _shares_of_loss(table, loss_of)
    rows = []
    for row in table.datasets:
        realised = [
            (percent(_share(counts, row.name)), _epochs(study, folder, run, row.name, counts.get(row.name, 0)))
            for run, counts in seen.items()
        ]
        rows.append(
            MixtureRow(
                id=ids.dataset(row.name),
                name=plain(row.name),
                link=safe_link(row.link),
                rows=short_count(row.train_rows),
                planned=percent(row.train_share),
                validation=percent(row.validation_share),
                of_loss=percent(of_loss.get(row.name)),
                realised=realised,
            )
        )
    own = [] if study is None else own_mixtures(folder, table)
    chart, note = _chart(table, seen.get(loss_of or "", {}), of_loss)
    known = {text for row in rows for text in (row.rows, row.planned, row.validation)}
    return MixtureView(
        is_known=bool(seen) or known != {"—"},
        loss_of=None if loss_of is None else plain(loss_of),
        runs=[plain(run) for run in seen],
        rows=rows,
        chart=chart,
        note=" ".join(filter(None, [note, *(f"{plain(text)}." for text in own)])),
    )


def _seen(table: Table, folder: StudyFolder) -> dict[str, dict[str, int]]:
    """Examples that each run was trained on, by dataset; runs that were trained elsewhere are left out."""
    found = {}
    for run in table.runs:
        steps = read_steps(folder.steps(run.name), ["dataset", "examples"])
        if steps.num_rows:
            counts = steps.group_by("dataset").aggregate([("examples", "sum")]).to_pydict()
            found[run.name] = dict(zip(counts["dataset"], counts["examples_sum"], strict=True))
    return found


def _share(counts: dict[str, int], dataset: str) -> float | None:
    return counts.get(dataset, 0) / sum(counts.values()) if counts else None


def _epochs(study: Study | None, folder: StudyFolder, run: str, dataset: str, seen: int) -> str:
    """How often a run saw each example of a dataset."""
    if study is None or run not in study.runs:
        return "—"
    path = folder.spans(dataset, study.recipe_of(run).sequence_length) / MANIFEST
    examples = read_json(path)["examples"] if path.is_file() else 0
    return f"{seen / examples:.2f}" if examples else "—"


def _shared_run(table: Table) -> str | None:
    """The base, else the first run, of those that have a loss on every dataset: of a part there is no share."""
    counted = [row.name for row in table.datasets if row.validation_share]
    for name in [*([table.base] if table.base else []), *(run.name for run in table.runs)]:
        if counted and all(table.cell(name, dataset, table.main_loss).value is not None for dataset in counted):
            return name
    return None


def _shares_of_loss(table: Table, run: str) -> dict[str, float]:
    """By dataset: validation share × loss over their sum, what the total by validation share is made of."""
    parts = {
        row.name: (row.validation_share or 0.0) * (table.cell(run, row.name, table.main_loss).value or 0.0)
        for row in table.datasets
    }
    total = sum(parts.values())
    return {name: value / total for name, value in parts.items()} if total else {}


def _chart(table: Table, seen: dict[str, int], of_loss: dict[str, float]) -> tuple[ChartView | None, str]:
    part = largest_datasets(table, _MOST_DATASETS)
    rows: list[dict[str, Any]] = []
    for row in part.datasets:
        shares = {
            "train share, planned": row.train_share,
            "train share, realised": _share(seen, row.name),
            "validation share": row.validation_share,
            "share of the loss": of_loss.get(row.name),
        }
        rows += [
            {"dataset": plain(row.name), "kind": kind, "share": share}
            for kind, share in shares.items()
            if share is not None
        ]
    if not rows:
        return None, ""
    chart = ChartView(
        id="shares",
        title="Shares by dataset",
        about="Shares of training, planned and realised, of validation and of the loss, by dataset",
        spec=shares_spec(rows, [plain(row.name) for row in part.datasets]),
        data=DataTable(
            columns=["dataset", "kind", "share"],
            rows=[[row["dataset"], row["kind"], f"{percent(row['share'])} %"] for row in rows],
        ),
    )
    return chart, part.note
