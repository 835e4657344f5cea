"""Names of columns and series: which metric, which run or dataset. English and Russian are known, `--map` does more.

column("tf_mlm_acc")                  → run "tf", mlm_accuracy
series("eval/wiki/mlm_loss")          → evaluation of dataset "wiki", mlm_loss
series("eval_wiki_loss")              → the same
"""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from lossary.errors import UsageError
from lossary.results.importers.model import ALL, ImportedMetric, Role

__all__ = ["Column", "Maps", "Series", "column", "parse_maps", "role", "row_scale", "series"]

_ROLES: tuple[tuple[Role, re.Pattern[str]], ...] = (
    (
        "validation_share",
        re.compile(r"(share|weight|%|доля|вес).*(val|eval|вал)|^val(idation)?\s*%|(val|вал).*(share|%)"),
    ),
    (
        "train_share",
        re.compile(r"(share|weight|%|доля|вес).*(train|тре[йи]н|обуч)|^train\s*%|(train|тре[йи]н).*(share|%)"),
    ),
    ("train_rows", re.compile(r"(rows|examples|documents|строк|пример|documentos|zeilen)")),
    ("dataset", re.compile(r"^(data\s*set|датасет|набор|corpus|source|domain|task)s?\b")),
)
_SCALES = (
    (re.compile(r"\b(bln|billions?|млрд)\b"), 10**9),
    (re.compile(r"\b(mln|mio|millions?|млн)\b"), 10**6),
    (re.compile(r"\b(k|thousands?|тыс)\b"), 10**3),
)
_MLM = {"mlm", "masked", "maskedlm", "lm"}
_SOP = {"sop", "nsp", "order"}
_ACCURACY = {"acc", "accuracy", "точность"}
_LOSS = {"loss", "nll", "xent", "ce", "лосс", "nats"}
_NOISE = {"val", "valid", "validation", "eval", "evaluation", "test", "dev", "metric", "metrics", "mean", "avg"}
_TRAIN = {"train", "training"}
# Words of series that only speak about a loss: `loss-scale`, `eval_loss_runtime`, `lm loss vs samples`.
_ABOUT = {"perplexity", "ppl", "scale", "rate", "lr", "norm", "grad", "gradient", "runtime", "time", "seconds", "vs"}


class Column(NamedTuple):
    """A column of numbers."""

    run: str
    metric: ImportedMetric


class Series(NamedTuple):
    """A series of points."""

    dataset: str
    metric: ImportedMetric
    split: Literal["train", "eval"]


class Maps(NamedTuple):
    """What a user said of columns and series by their exact names."""

    columns: Mapping[str, Role | Column]
    series: Mapping[str, Series | None]


def parse_maps(items: list[str]) -> Maps:
    """`HEADER=ROLE`, `HEADER=RUN:METRIC` or `SERIES=DATASET:METRIC`; UsageError says what is known."""
    columns: dict[str, Role | Column] = {}
    found: dict[str, Series | None] = {}
    roles = ("dataset", "train_rows", "train_share", "validation_share", "ignore")
    metrics = ("mlm_loss", "mlm_accuracy", "sop_loss", "sop_accuracy")
    for item in items:
        name, equals, meaning = item.rpartition("=")
        owner, colon, metric = meaning.rpartition(":")
        if equals and meaning in roles:
            columns[name] = meaning  # type: ignore[assignment]
            if meaning == "ignore":
                found[name] = None
        elif equals and colon and owner and metric in metrics:
            columns[name] = Column(owner, metric)  # type: ignore[arg-type]
            found[name] = Series(owner, metric, "eval")  # type: ignore[arg-type]
        else:
            raise UsageError(
                f"not a mapping: {item!r}",
                where="--map",
                hint=f"NAME=ROLE with {', '.join(roles)}; or NAME=RUN:METRIC, NAME=DATASET:METRIC "
                f"with {', '.join(metrics)}.",
            )
    return Maps(columns, found)


def role(header: str) -> Role | None:
    """What a column says of datasets, if it does."""
    text = header.strip().lower()
    return next((name for name, pattern in _ROLES if pattern.search(text)), None)


def row_scale(header: str) -> int:
    """What a count in this column is to be multiplied with: `train rows, mln`."""
    return next((factor for pattern, factor in _SCALES if pattern.search(header.lower())), 1)


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\s_/.\-:()]+", name) if word]


def _metric(words: list[str]) -> ImportedMetric | None:
    """The metric that words speak of; a loss is one of masked words unless they say otherwise."""
    lower = {word.lower() for word in words}
    is_accuracy = bool(lower & _ACCURACY)
    if not is_accuracy and not lower & (_LOSS | _MLM | _SOP):
        return None
    if lower & _SOP:
        return "sop_accuracy" if is_accuracy else "sop_loss"
    return "mlm_accuracy" if is_accuracy else "mlm_loss"


def _rest(words: list[str]) -> list[str]:
    known = _MLM | _SOP | _ACCURACY | _LOSS | _NOISE | _TRAIN
    return [word for word in words if word.lower() not in known]


def column(header: str) -> Column | None:
    """Run and metric of a column of numbers; the run is what is left of its name."""
    words = _words(header)
    metric = _metric(words)
    if metric is None:
        return None
    return Column("_".join(_rest(words)) or "run", metric)


def series(name: str) -> Series | None:
    """Dataset, metric and split of a series; None if it is no loss or accuracy."""
    words = _words(name)
    metric = _metric(words)
    lower = [word.lower() for word in words]
    # Unlike a column, a series says loss or accuracy: logs hold a lot besides.
    if metric is None or not {*lower} & (_LOSS | _ACCURACY) or {*lower} & _ABOUT:
        return None
    evaluated = any(word in _NOISE - {"metric", "metrics", "mean", "avg"} for word in lower)
    split: Literal["train", "eval"] = "eval" if evaluated else "train"
    return Series("_".join(_rest(words)) or ALL, metric, split)
