"""lm-evaluation-harness' `results_DATE.json` beside samples: the model's name, and what samples are held against.

The harness calls the folder by the model, with `__` for what no file may be called: `./step1000` is `.__step1000`.
Its numbers are not imported, as those of the samples are the same ones; where they are not, a note says so.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lossary.errors import LossaryError
from lossary.results.importers.lines import is_number, read_json_text
from lossary.results.importers.model import ExampleScores, Imported, Mapped, noted

__all__ = ["held_against_results", "model_of"]

# What no name of a folder may have, as the harness replaces it.
_REPLACED = re.compile(r'["<>:/|\\?*\[\]]+')
# Its metrics that are exponentials of what a table has.
_BASES = {"word_perplexity": math.e, "perplexity": math.e, "byte_perplexity": 2.0}
_SAME = 1e-6
_LARGEST = 700.0


def model_of(folder: Path) -> str:
    """The model that a folder of samples is of, as its user calls it: `org/model`, or the last part of a local path."""
    name = folder.name
    if "__" not in name and not name.startswith("."):
        return name
    said = (read.get("model_name") for _, read in _results(folder))
    model = next((item for item in said if isinstance(item, str) and _REPLACED.sub("__", item) == name), None)
    if model is None:
        if not name.startswith((".", "__")):
            return name
        model = name.replace("__", "/")
    is_local = model.startswith((".", "/", "~")) or "\\" in model
    return (re.split(r"[/\\]", model.rstrip("/\\"))[-1].lstrip("._") if is_local else model) or name


def _results(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The files of results in a folder, the newest first; one that nobody can read is passed over."""
    for path in sorted(folder.glob("results_*.json"), reverse=True):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            read = read_json_text(path)
        except LossaryError:
            continue
        if isinstance(read, dict) and isinstance(read.get("results"), dict):
            yield path, read


def held_against_results(parts: Iterable[Imported], root: Path) -> list[Imported]:
    """The parts with notes of the files of results beside their samples, and of numbers in which both disagree."""
    parts = list(parts)
    by_folder: dict[Path, list[int]] = defaultdict(list)
    for at, part in enumerate(parts):
        if part.examples and Path(part.path).name.startswith("samples_"):
            by_folder[Path(part.path).parent].append(at)
    beside: list[str] = []
    unread: list[str] = []
    for folder, places in by_folder.items():
        known = dict(_results(folder))
        for path in sorted(folder.glob("results_*.json")):
            shown = str(path.relative_to(root) if path.is_relative_to(root) else path)
            (beside if path in known else unread).append(shown)
            for at in places if path in known else []:
                if Path(parts[at].path).stem.endswith(f"_{path.stem.removeprefix('results_')}"):
                    parts[at] = _held(parts[at], shown, known[path])
    notes = [noted("left out, as the samples beside are read", beside, most=3)] if beside else []
    notes += [noted("left out, no results of lm-evaluation-harness", unread, most=3)] if unread else []
    return [*parts, Imported(path=str(root), kind="", notes=notes)] if notes else parts


def _held(part: Imported, shown: str, read: dict[str, Any]) -> Imported:
    """The part with a note for what the results say otherwise."""
    scores = {item.metric: item for item in part.examples}
    first = part.examples[0]
    wrong: dict[str, str] = {}
    for mapped in part.mapping:
        if mapped.reason is None and mapped.metric in scores:
            said = _otherwise(mapped, scores[mapped.metric], read["results"].get(mapped.dataset))
            wrong |= {mapped.source: said} if said else {}
    texts = list(wrong.values())
    counts = read.get("n-samples", {})
    counted = counts.get(first.dataset) if isinstance(counts, dict) else None
    counted = counted.get("effective") if isinstance(counted, dict) else None
    if is_number(counted) and counted != len(first.example):
        texts.append(f"{counted:,} samples where the file has {len(first.example):,}")
    if not texts:
        return part
    note = f"{first.run}, {first.dataset}: in conflict, {shown} says {', '.join(texts)}; the samples count"
    mapping = [replace(item, conflict=item.conflict or item.source in wrong) for item in part.mapping]
    return replace(part, mapping=mapping, notes=[*part.notes, note])


def _otherwise(mapped: Mapped, scores: ExampleScores, results: Any) -> str:
    """What the results say of a metric and the samples do not; empty where both agree or one is silent."""
    key, _, kind = mapped.source.partition(",")
    said = results.get(f"{key},{kind or 'none'}") if isinstance(results, dict) else None
    # Of a metric that a map made a fraction, nobody knows how the harness puts examples together.
    if not isinstance(said, int | float) or (mapped.metric.endswith("accuracy") and not _is_a_mean(key)):
        return ""
    value = float(scores.y.sum() / scores.x.sum())
    if key in _BASES:
        value = _BASES[key] ** min(value, _LARGEST)
    if math.isnan(value) or math.isclose(value, float(said), rel_tol=_SAME, abs_tol=_SAME):
        return ""
    return f"{mapped.source} {float(said):.6g} where its samples give {value:.6g}"


def _is_a_mean(key: str) -> bool:
    return key in ("acc", "acc_norm", "exact_match", "em") or key.startswith("pass@")
