"""Tables of simulated studies, for rules to look at: healthy ones, and ones with something planted."""

from dataclasses import dataclass, field, replace

import numpy as np
from tests.columns import RunColumns, columns_of, compare_columns, estimates_of_columns

from lossary.findings.subject import DatasetFacts, LabelCounts, Subject
from lossary.objectives import metrics_of
from lossary.tables.deltas import with_deltas
from lossary.tables.model import Cell, DatasetRow, Metric, RunColumn, Table, measure_of
from lossary.tables.totals import totals_of

DATASETS = {"reform": 0.3, "views": 0.4, "dialogue": 0.3}
LN2 = float(np.log(2))

HEALTHY_FACTS = DatasetFacts(
    documents=100_000,
    tokens=5_000_000,
    unknown_tokens=5_000,
    pairs=100_000,
    identical_pairs=20,
    duplicates=900,
    overlap=0,
)
HEALTHY_LABELS = LabelCounts(200, 97)


@dataclass
class Plan:
    """What is simulated; `mlm` and `sop` shift a run's mean loss on a dataset."""

    examples: int = 200
    runs: tuple[str, ...] = ("torch_xxl", "tf_xxl", "tf_xxl_seed2")
    mlm: dict[tuple[str, str], float] = field(default_factory=dict)
    sop: dict[tuple[str, str], float] = field(default_factory=dict)
    accuracy: dict[tuple[str, str], float] = field(default_factory=dict)
    validation_shares: dict[str, float] = field(default_factory=lambda: dict(DATASETS))
    facts: DatasetFacts | None = HEALTHY_FACTS
    labels: LabelCounts = HEALTHY_LABELS


BASE = {"reform": (2.0, 0.62), "views": (3.0, 0.47), "dialogue": (2.5, 0.55)}


def simulate(plan: Plan, seed: int) -> Subject:
    """A subject as `subject_of_study` gives it, from simulated scores."""
    names = list(DATASETS)
    scores = _scores(plan, names, np.random.default_rng(seed))
    subject = subject_of(scores, floors=dict.fromkeys(names, (6.0, LN2)), shares=plan.validation_shares)
    return replace(
        subject,
        facts={} if plan.facts is None else dict.fromkeys(names, plan.facts),
        labels=dict.fromkeys(names, plan.labels),
    )


def subject_of(
    scores: dict[str, RunColumns], *, floors: dict[str, tuple[float, float]], shares: dict[str, float]
) -> Subject:
    """A subject of scores by run; `floors` are unigram and label entropies, `shares` those of validation."""
    first = next(iter(scores.values()))["mlm"]
    counts = np.bincount(first.dataset, minlength=len(first.datasets))
    names = first.datasets
    metrics = metrics_of(("mlm", "sop"))
    rows = [
        DatasetRow(
            name=name,
            train_rows=100_000,
            train_share=DATASETS.get(name, 1 / len(names)),
            validation_share=shares[name],
            validation_examples=int(count),
            link=None,
        )
        for name, count in zip(names, counts, strict=True)
    ]
    cells = [
        _cell(run, name, metric, scores[run], floors[name]) for run in scores for name in names for metric in metrics
    ]
    totals = [total for run in scores for total in totals_of(run, rows, cells, metrics=metrics)]
    columns = [
        RunColumn(
            name=run,
            backend="torch" if run.startswith("torch") else "tensorflow",
            size="xlarge" if run.endswith("_xl") else "xxlarge",
            step=100,
            tokens=10**6,
            datasets=None,
            device="cpu",
            precision="fp32",
            weights_digest=run,
            link=None,
        )
        for run in scores
    ]
    table = Table(
        study="simulated",
        datasets=rows,
        runs=columns,
        cells=cells,
        totals=totals,
        signature="simulated",
        validation_digest="blake2b:0",
        tokenizer_digest="blake2b:0",
    )
    base = Subject(table=table, where="study").best or next(iter(scores))
    paired = {run: compare_columns(scores[base], found) for run, found in scores.items() if run != base}
    return Subject(table=with_deltas(table, base, paired), where="study", vocabulary_size=8000)


def _scores(plan: Plan, names: list[str], rng: np.random.Generator) -> dict[str, RunColumns]:
    n = plan.examples
    masked = np.minimum(2 + rng.geometric(0.12, (len(names), n)), 40).astype(float)
    hard = rng.gamma(8, 1 / 8, (len(names), n))
    order = rng.gamma(1, 1, (len(names), n))
    found = {}
    for run in plan.runs:
        nats, correct, sop, sop_correct = [], [], [], []
        for index, name in enumerate(names):
            loss, accuracy = BASE[name]
            loss += plan.mlm.get((run, name), 0.0)
            x = masked[index]
            nats.append(x * hard[index] * loss + rng.normal(0, 0.4, n) * np.sqrt(x))
            correct.append(rng.binomial(x.astype(int), plan.accuracy.get((run, name), accuracy)).astype(float))
            level = plan.sop.get((run, name), 0.35)
            sop.append(level * (0.8 * order[index] + 0.2 * rng.gamma(1, 1, n)))
            sop_correct.append((rng.random(n) < 0.85).astype(float))
        found[run] = columns_of(
            names,
            np.repeat(np.arange(len(names)), n),
            np.tile(np.arange(n, dtype=np.uint64), len(names)),
            masked=masked.reshape(-1),
            mlm=(np.concatenate(nats), np.concatenate(correct)),
            sop=(np.concatenate(sop), np.concatenate(sop_correct)),
        )
    return found


def _cell(run: str, name: str, metric: Metric, scores: RunColumns, floors: tuple[float, float]) -> Cell:
    estimate = estimates_of_columns(scores)[name][metric]
    floor = {"mlm_loss": floors[0], "sop_loss": floors[1]}.get(metric)
    standing = None
    if floor is not None and estimate.low is not None and estimate.high is not None:
        standing = "below" if estimate.high < floor else "above" if estimate.low > floor else "at"
    return Cell(
        run=run,
        dataset=name,
        metric=metric,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        variance=estimate.variance,
        n=estimate.n,
        unit=measure_of(metric).unit,
        interval=estimate.method,
        reason=estimate.reason,
        floor=floor,
        standing=standing,  # type: ignore[arg-type]
        step=100,
        validation_digest="blake2b:0",
        link=None,
    )
