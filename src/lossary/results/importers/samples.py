"""Scores of single examples that lm-evaluation-harness writes with `--log_samples`: `samples_TASK_DATE.jsonl`.

    {"doc_id": 0, "doc": …, "filter": "none", "metrics": ["acc"], "doc_hash": …, "prompt_hash": …, "target_hash": …,
     "acc": 1.0, "bits_per_byte": [-310.4, 212]}

The task is the dataset, the model that the folder is called by the run. A pair is a log-likelihood and the bytes or
words of the text; one number is the example's own. What was asked is known by its hashes: only the same is subtracted
later.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lossary.errors import SourceError
from lossary.results.importers.example_scores import SAMPLES, Gathered, Refusal, Score, part_right, slug
from lossary.results.importers.harness_results import model_of
from lossary.results.importers.lines import KeyTwice, is_number, lines_of, parsed_json
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Imported

__all__ = ["has_samples", "is_of_examples", "is_samples", "read_samples"]

_HASHES = ("doc_hash", "prompt_hash", "target_hash")
# What a line says beside its metrics.
_OTHERS = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", *_HASHES}
_NAME = re.compile(r"samples_(?P<task>.+?)_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
_RIGHT = re.compile(r"acc|acc_(?P<norm>\w+)|(?P<other>em|exact_match|pass@\d+|\w+_acc)")


def is_of_examples(path: Path) -> bool:
    """Whether a file is called as one of samples, or as a log of Inspect."""
    return _NAME.fullmatch(path.name) is not None or path.suffix == ".eval"


def has_samples(folder: Path) -> bool:
    """Whether samples lie in a folder itself, as in the hidden ones that the harness makes of paths."""
    return any(_NAME.fullmatch(path.name) for path in folder.glob("samples_*.jsonl"))


def is_samples(first: str) -> bool:
    """Whether a file begins as the harness writes its samples; lines are too long to be read for that."""
    return first.startswith('{"doc_id":')


def read_samples(path: Path, maps: Maps) -> Imported:
    """The scores of one task; SourceError names the first line that is damaged, stands there twice or has no hash."""
    named = _NAME.fullmatch(path.name)
    task = named["task"] if named else path.stem.removeprefix("samples_")
    gathered = Gathered(path, SAMPLES, model_of(path.resolve().parent), task)
    for place, record in _records(path):
        content = _content(path, place, record)
        kind = str(record.get("filter") or "none")
        for key in [key for key in record if key not in _OTHERS]:
            name = key if kind == "none" else f"{key},{kind}"
            score = _score(key, kind, record[key], maps, name)
            if key == "byte_perplexity" and "bits_per_byte" in record:
                score = Refusal("the same as bits_per_byte")
            gathered.add(name, str(record["doc_id"]), content, score, place)
    return gathered.finish(maps)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in lines_of(path):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = parsed_json(line)
        except KeyTwice as error:
            raise KeyTwice(error.message, where=where, hint=error.hint) from None
        except (ValueError, RecursionError) as error:
            raise SourceError(f"not JSON: {error}", where=where, hint="The file is damaged or cut off.") from None
        if not isinstance(record, dict) or type(record.get("doc_id")) is not int:
            raise SourceError("no sample of lm-evaluation-harness: it has no doc_id", where=where)
        yield f"line {number}", record


def _content(path: Path, place: str, record: dict[str, Any]) -> str:
    """What was asked, by its hashes."""
    lacking = next((name for name in _HASHES if not isinstance(record.get(name), str) or not record[name]), None)
    if lacking:
        raise SourceError(
            f"example {record['doc_id']} has no {lacking}: nobody can tell whether another run was asked the same",
            where=f"{path}, {place}",
            hint="Evaluate again with lm-evaluation-harness 0.4.3 or newer and --log_samples.",
        )
    return " ".join(record[name] for name in _HASHES)


def _score(key: str, kind: str, value: Any, maps: Maps, name: str) -> Score | Refusal:
    """What a metric of the harness is of one example."""
    prefix = "" if kind == "none" else f"{slug(kind)}_"
    if key in ("bits_per_byte", "byte_perplexity", "word_perplexity"):
        if not (isinstance(value, list) and len(value) == 2 and all(map(is_number, value)) and value[1] > 0):
            return Refusal("not the log-likelihood of a text and its length")
        nats, size = -float(value[0]), float(value[1])
        words = key == "word_perplexity"
        return Score(prefix + ("word_loss" if words else "bits_per_byte"), nats if words else nats / math.log(2), size)
    if value is None or isinstance(value, str):
        value = math.nan
    if not isinstance(value, bool | int | float):
        return Refusal("not one number for each example")
    if key == "perplexity":
        return Score(prefix + "target_loss", -float(value))
    right = _RIGHT.fullmatch(key)
    plain = "" if right is None else (right["norm"] or right["other"] or "").removesuffix("_acc")
    metric = f"{slug(plain)}_accuracy" if plain else "accuracy"
    return part_right(name, float(value), prefix + metric if right else None, maps)
