"""Scores of single samples in logs of Inspect (`.eval`, `.json`), which its own package reads.

The task is the dataset, the model the run. Of several epochs of a sample the mean counts, as Inspect's metrics take it:
they are no samples of their own. `C`, `P`, `I` and `N` are right, half right, and wrong; scores of its perplexity
scorers are nats by token. What was asked is known by a digest of input, choices and target.
"""

import importlib
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lossary.errors import MissingPackage, SourceError
from lossary.files import digest_json
from lossary.results.importers.example_scores import Gathered, Refusal, Score, part_right, slug
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Imported

__all__ = ["is_inspect", "read_inspect"]

_BEGIN = re.compile(r'"eval"\s*:\s*\{\s*"(eval_id|run_id|task_id|created)"')
_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}


def is_inspect(head: str) -> bool:
    """Whether a text begins as Inspect's logs in JSON do."""
    return head.lstrip().startswith("{") and _BEGIN.search(head) is not None


def read_inspect(path: Path, maps: Maps) -> Imported:
    """The scores of one log. MissingPackage without its package, SourceError if it is damaged or was not finished."""
    try:
        log = importlib.import_module("inspect_ai.log")
    except ImportError:
        raise MissingPackage(
            "a log of Inspect, which only its package reads",
            where=str(path),
            hint='Install: pip install "lossary[inspect]"',
        ) from None
    try:
        header = log.read_eval_log(str(path), header_only=True).eval
        samples = [
            (str(sample.id), _content(sample), _scores(sample)) for sample in log.read_eval_log_samples(str(path))
        ]
    # Whatever its package raises: the log may be damaged, not finished, or of another version.
    except Exception as error:
        raise SourceError(f"Inspect's package cannot read it: {str(error)[:300]}", where=str(path)) from None
    gathered = Gathered(path, "logs of Inspect", str(header.model), str(header.task).rpartition("/")[2])
    for example, content, scores in _by_sample(samples, path):
        for name, found in scores.items():
            gathered.add(name, example, content, _score(name, found, maps), "")
    return gathered.finish(maps)


# By name of a score: what each epoch of a sample got, and what its scorer added.
_Scores = dict[str, list[tuple[Any, dict[str, Any]]]]


def _scores(sample: Any) -> dict[str, tuple[Any, dict[str, Any]]]:
    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    for name, score in (sample.scores or {}).items():
        parts = score.value if isinstance(score.value, dict) else {"": score.value}
        for part, value in parts.items():
            found[f"{name}/{part}" if part else name] = (value, score.metadata or {})
    return found


def _content(sample: Any) -> str:
    asked = sample.input if isinstance(sample.input, str) else [[m.role, m.text] for m in sample.input]
    return digest_json([asked, sample.choices, sample.target])


def _by_sample(samples: list[tuple[str, str, Any]], path: Path) -> Iterator[tuple[str, str, _Scores]]:
    """The epochs of each sample together, all of which were asked the same."""
    contents: dict[str, str] = {}
    epochs: dict[str, _Scores] = {}
    for example, content, scores in samples:
        if contents.setdefault(example, content) != content:
            raise SourceError(f"sample {example} stands there twice, and what was asked differs", where=str(path))
        for name, found in scores.items():
            epochs.setdefault(example, defaultdict(list))[name].append(found)
    counts = {name: len(found) for scores in epochs.values() for name, found in scores.items()}
    for example, scores in epochs.items():
        odd = next((name for name, found in scores.items() if len(found) != counts[name]), None)
        if odd:
            raise SourceError(
                f"sample {example} has {len(scores[odd])} scores of {odd}, others {counts[odd]}", where=str(path)
            )
        yield example, contents[example], scores


def _score(name: str, epochs: list[tuple[Any, dict[str, Any]]], maps: Maps) -> Score | Refusal:
    nats, sizes = ([_number(extra.get(key)) for _, extra in epochs] for key in ("sum_log_probs", "num_tokens"))
    if all(value is not None for value in nats) and all(sizes):
        return Score("loss", -math.fsum(filter(None, nats)), math.fsum(filter(None, sizes)))
    values = [number for value, _ in epochs if (number := _number(value)) is not None]
    if len(values) < len(epochs):
        return Refusal("not one number for each sample")
    is_known = any(isinstance(value, str) for value, _ in epochs)
    metric = f"{slug(name)}_accuracy" if is_known else None
    return part_right(name, math.fsum(values) / len(values), metric, maps)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return _LETTERS.get(value)
    return float(value) if isinstance(value, bool | int | float) else None
