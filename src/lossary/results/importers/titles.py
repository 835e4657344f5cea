"""What a title says of the columns below it that name no metric: `Validation loss by domain`."""

import re
from typing import NamedTuple

from lossary.results.importers.languages import translated
from lossary.results.importers.model import Split
from lossary.results.importers.names import Quantity, quantities_in, read_name, split_word

__all__ = ["SETTING", "STRONG", "TitleSays", "is_beside", "said_by_title", "title_splits"]

# Objectives that alone say that a number is a loss.
STRONG = {"mlm", "sop", "nsp", "clm"}
# What a column of numbers says of a run rather than of a dataset.
SETTING = re.compile(
    r"(#|n|num|number of|total|trainable)?[\s_]*(bits?|w?bits|params?|parameters|size|seeds?|layers|heads|hidden|width"
    r"|depth|tokens|steps?|epochs?|lr|learning rate|batch( size)?|group( size)?|rank|alpha"
    r"|memory|vram|ram|gib|gb|mb|flops|gpus?"
    r"|speed|throughput|latency|time|hours|minutes|seconds|year|context( length)?|length|vocab(ulary)?( size)?)"
    r"([\s_]*[(\[].*)?",
    re.IGNORECASE,
)
_DIFFERENCE_WORDS = {"difference", "differences", "improvement", "delta", "reduction"}


# What a log has beside its losses; a name that has such a word is of no dataset.
_OF_MACHINES = re.compile(
    r"elapsed|eta|time|secs?|seconds?|ms|hours?|minutes?|duration|wall|norm|grads?|gradients?|lr|rate|decay|momentum|per"
    r"|tokens?|samples?|examples?|batch(?:es)?|speed|throughput|tps|t?flops|mfu|mem|memory|[gc]pus?|ram|util|scale"
    r"|size|count|num|total|epochs?|steps?|iters?|iterations?|seeds?|params?|sparsity|power|temperature|it",
    re.IGNORECASE,
)


def is_beside(header: str) -> bool:
    """Whether a column is a setting, or what a log has beside its losses: `lr`, `elapsed`, `tokens_per_sec`."""
    words = re.findall(r"[^\W_\d]+", header)
    return SETTING.fullmatch(header) is not None or any(map(_OF_MACHINES.fullmatch, words))


class TitleSays(NamedTuple):
    """The one quantity that a title names, with its objective and split where it names one of each."""

    quantity: Quantity
    objective: str | None
    split: Split | None


def said_by_title(title: str) -> TitleSays | None:
    """What a title says was measured; None where it names nothing, several quantities, or a difference."""
    title = translated(title)
    words = re.findall(r"[^\W_]+", title)
    quantities = quantities_in(title)
    if len(quantities) != 1 or any(word.lower() in _DIFFERENCE_WORDS for word in words):
        return None
    objectives = {name.objective for word in words if (name := read_name(word)).objective in STRONG}
    splits = title_splits(title)
    return TitleSays(
        next(iter(quantities)),
        next(iter(objectives)) if len(objectives) == 1 else None,
        next(iter(splits)) if len(splits) == 1 else None,
    )


_TITLE_SPLIT = re.compile(
    r"\b(?:(train|training|val|valid|validation|eval|evaluation|dev|test)[\s_-]+"
    r"(?:(?:mlm|sop|nsp|clm|lm|masked|language|model(?:ing)?|cross)[\s_-]+)*(?:set|entropy|loss|losses|perplexity|ppl|accuracy)"
    r"|on (?:the )?(train|training|validation|val|dev|test)(?= |$))", re.IGNORECASE
)  # fmt: skip


def title_splits(title: str) -> set[Split]:
    """Splits that a title names together with what is measured; `Results of training` names none."""
    title = translated(title)
    whole = split_word(title)
    if whole is not None:
        return {whole}
    words = [match[1] or match[2] for match in _TITLE_SPLIT.finditer(title)]
    return {split for word in words if (split := split_word(word)) is not None}
