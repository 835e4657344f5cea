"""Words of findings: how metrics are called, and how a long list is shortened."""

from collections.abc import Iterable

from lossary.tables.model import Metric, measure_of

__all__ = ["few", "metric_name", "share_of"]

_MOST = 12


def metric_name(metric: Metric) -> str:
    """As people say it: `MLM loss`; `loss` of an import that names no objective."""
    title = measure_of(metric).title
    return f"{title}uracy" if title.endswith("acc") else title


def few(texts: Iterable[str], most: int = _MOST) -> str:
    """The first ones, separated by commas, and how many more there are; all of them are in the evidence."""
    listed = list(texts)
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more} more" if more > 0 else "")


def share_of(count: int, of: int, what: str = "datasets") -> str:
    """`all 3 datasets`, `2 of 3 datasets`, `its only dataset`."""
    if of == 1:
        return f"its only {what.removesuffix('s')}"
    return f"all {of} {what}" if count == of else f"{count} of {of} {what}"
