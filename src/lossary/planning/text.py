"""A plan in sentences and as JSON."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from lossary.models.architectures import shape_value
from lossary.models.shapes import AlbertShape
from lossary.planning.estimates import Estimates
from lossary.planning.model import Item, Plan
from lossary.planning.sample_size import SampleSizes
from lossary.reports.text import aligned

__all__ = ["estimate_lines", "plan_lines", "plan_value", "refusal", "sample_lines"]


_RUNS = (
    "run",
    "backend",
    "layers × hidden, heads",
    "parameters",
    "steps",
    "left",
    "tokens",
    "memory",
    "disk",
    "time left",
    "scoring",
)


def plan_lines(items: Iterable[Item]) -> list[str]:
    """One line for all items of one kind that fare alike."""
    groups: dict[tuple[str, str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.kind, item.fate, item.why), []).append(item)
    return [_line(group) for group in groups.values()]


def _line(group: Sequence[Item]) -> str:
    names = ", ".join(item.name for item in group if item.name)
    what = f"{group[0].kind} {names}".strip()
    why = f": {group[0].why}" if group[0].why else ""
    return f"{group[0].fate:<9} {what}{why}"


def refusal(plan: Plan) -> str:
    """What is refused, why, and the ways out; each on a line."""
    lines = ["this would lose what stands; nothing was touched"]
    for item in plan.refused:
        lines += [f"  {item.what}: {item.why}", *(f"    - {way}" for way in item.ways)]
    return "\n".join(lines)


def estimate_lines(sizes: Estimates) -> list[str]:
    """Datasets, runs and notes, aligned."""
    rows: list[tuple[str, ...]] = [("dataset", "documents", "tokens", "training", "validation", "share")]
    for d in sizes.datasets:
        share = "—" if d.share is None else f"{d.share:.1%}"
        counts = (d.documents, d.tokens, d.training_examples, d.validation_examples)
        rows.append((d.name, *map(_count, counts), share))
    lines = [*aligned(rows), ""]
    if not sizes.runs:
        return [*lines, "no runs: checkpoints from elsewhere are scored", *(f"note: {note}" for note in sizes.notes)]
    runs = [_RUNS]
    for run in sizes.runs:
        shape = run.label
        if isinstance(run.shape, AlbertShape):
            shape = f"{run.shape.num_layers} × {run.shape.hidden_size:,}, {run.shape.num_heads}"
        numbers = (_count(run.parameters), _count(run.steps), _count(run.steps_left), _count(run.tokens))
        memory, disk = _bytes(run.memory_bytes), _bytes(run.disk_bytes)
        times = _duration(run.seconds_left), _duration(run.scoring_seconds)
        runs.append((run.name, run.backend, shape, *numbers, memory, disk, *times))
    lines += [*aligned(runs), "", "memory: weights, gradients and moments. disk: checkpoints at most."]
    lines.append(f"time: {_timed(sizes)}")
    return [*lines, *(f"note: {note}" for note in sizes.notes)]


def _timed(sizes: Estimates) -> str:
    """What the times are from."""
    others = {run.timed_by for run in sizes.runs if run.timed_by}
    if any(run.scoring_seconds is not None for run in sizes.runs):
        return (
            "steps were timed here, each run alone with all cores, on random pieces; scoring is all validation "
            "examples once. Examples are taken to be as long as they may be where they are not prepared."
        )
    if others:
        return f"as {', '.join(sorted(others))} took here, by operations a token."
    if any(run.seconds_left is None for run in sizes.runs):
        return "not known before steps are timed here: `lossary plan --time` does it."
    return "no step is left to train."


def _count(value: int | None) -> str:
    return "—" if value is None else f"{value:,}"


def _bytes(value: int | None) -> str:
    if value is None:
        return "—"
    size, unit = float(value), 0
    while size >= 1024 and unit < 4:
        size, unit = size / 1024, unit + 1
    return f"{size:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "—"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def plan_value(plan: Plan, sizes: Estimates) -> dict[str, Any]:
    """A plan as JSON."""
    return {
        "datasets": [asdict(dataset) for dataset in sizes.datasets],
        "runs": [asdict(run) | {"shape": shape_value(run.shape)} for run in sizes.runs],
        "notes": sizes.notes,
        "schema": 1,
        "refused": bool(plan.refused),
        "items": [
            {"kind": item.kind, "name": item.name, "fate": item.fate, "why": item.why, "ways": list(item.ways)}
            for item in plan.items
        ],
    }


_FROZEN = (
    "Frozen examples stay while runs depend on them: with this table in the study file (`--write` puts it there) "
    "`lossary run --new-generation` keeps all that stands, and makes examples and runs anew."
)


def sample_lines(found: SampleSizes, *, writes: bool = False) -> list[str]:
    """What it takes to see a difference, and the table [validation] that has it, and how to have it."""
    rows: list[tuple[str, ...]] = [("dataset", "pilot", "deviation", "needed", "at most", "spread of")]
    for need in found.datasets:
        deviation = "—" if need.deviation is None else f"{need.deviation:.3f}"
        counts = map(_count, (need.needed, need.available))
        rows.append((need.name, _count(need.pilot), deviation, *counts, need.runs or "—"))
    lines = [
        f"Examples that show a difference of {found.difference:g} {found.unit} in {found.metric} on each dataset "
        "(power 0.8, Holm):",
        *aligned(rows),
    ]
    if found.own_shares is not None:
        lines += [
            f"with the present validation shares: {found.keeping_shares:,} in all",
            f"with just what each dataset needs: {found.own_shares:,} in all",
        ]
        lines += [
            f"  {run}: {keeping:,.0f} s or {own:,.0f} s an evaluation" for run, (keeping, own) in found.seconds.items()
        ]
        lines += ["", *(found.validation.splitlines() or _lacking_lines(found))]
        lines += [_FROZEN] if found.validation and not writes else []
    return [*lines, *(f"note: {note}" for note in found.notes)]


def _lacking_lines(found: SampleSizes) -> list[str]:
    """Why no table [validation] has so many examples, and what could be done."""
    lacking = [need for need in found.datasets if need.is_lacking]
    few = "; ".join(
        f"{need.name} needs {_count(need.needed)} and has about {_count(need.available)}" for need in lacking
    )
    lines = [f"So many cannot be frozen, at most max_fraction of the documents of each dataset leaves training: {few}."]
    if found.visible is not None and found.visible < float("inf"):
        lines += [f"What there is shows {found.visible:g} {found.unit}: `lossary plan --see {found.visible:g}`."]
    return [*lines, "More documents, or a higher max_fraction in [validation], show smaller ones."]
