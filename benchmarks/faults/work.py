"""The cases of one side, one after another, in a process of its own."""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import lossary
from benchmarks.faults.baselines import first_difference, metric_difference
from benchmarks.faults.cases import Case, Result, Workshop, cases_of, score
from benchmarks.faults.catalogue import FAULTS, MORE, THREADS, UNLISTED
from benchmarks.faults.zygote import Zygote
from lossary.files import digest_json, write_atomic

__all__ = ["work"]

# What a healthy user may declare otherwise: seeds, precision, optimizer, every number of the recipe.
_VARIATIONS: tuple[dict[str, Any], ...] = (
    {},
    {"learning_rate": 3e-4},
    {"optimizer": "lamb", "learning_rate": 2e-3},
    {"precision": "bf16"},
    {"weight_decay": 0.1},
    {"epsilon": 1e-8},
    {"mask_rate": 0.2},
    {"warmup": 0},
    {"clip_norm": 0.5},
    {"optimizer": "lamb", "weight_decay": 0.0},
)


def work(options: argparse.Namespace) -> None:
    """Runs all cases of `options.worker` and writes them as JSON, after each fault; goes on where a run was cut off."""
    side = options.worker
    wanted = {code for code in options.only.split(",") if code}
    faults = [f for f in (*FAULTS, *MORE, *UNLISTED, *THREADS) if side in f.sides and (not wanted or f.code in wanted)]
    path = Path(options.json)
    found = _begun(path)
    with tempfile.TemporaryDirectory(prefix=f"lossary-faults-{side}-") as name, Zygote(side) as zygote:
        workshop = Workshop(Path(name), side, zygote)
        for fault in faults:
            cases, done = list(cases_of(fault, side, quick=options.quick)), {row["label"] for row in found["cases"]}
            if all(case.label in done for case in cases):
                continue
            results = []
            for case in cases:
                row = _case(workshop, case, zygote.import_s)
                results.append(row)
                _say(row)
            found["cases"] += results
            found["ablation"] += _ablation(workshop, [row for row in results if row["named"]][-1:])
            workshop.clear()
            _store(path, found)
        if not wanted or "healthy" in wanted:
            count = 4 if options.quick else options.healthy // (1 if options.side else 2)
            for number in range(len(found["healthy"]), count):
                found["healthy"].append(_healthy(workshop, number, zygote.import_s))
                _say(found["healthy"][-1])
                _store(path, found)
    _store(path, found)


def _begun(path: Path) -> dict[str, Any]:
    """What a run that was cut off had found with the same code; else nothing."""
    state = _state()
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        if found["state"] == state:
            return found
    return {"state": state, "cases": [], "healthy": [], "ablation": []}


def _state() -> str:
    """The digest of all code that a result depends on."""
    folders = (Path(lossary.__file__).parent, Path(__file__).parent)
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return digest_json([file.read_text(encoding="utf-8") for file in files])


def _store(path: Path, found: dict[str, Any]) -> None:
    with write_atomic(path) as temporary:
        temporary.write_text(json.dumps(found))


def _case(workshop: Workshop, case: Case, import_s: float) -> dict[str, Any]:
    fault = workshop.by_code[case.code]
    seen: dict[str, Any] = {}
    found, wall_s = workshop.diagnosis(case, look=lambda subject: seen.update(_baselines(subject)))
    result = score(case, fault, found, wall_s=wall_s, import_s=import_s)
    limit = workshop.limit(case)
    checks = {o.check for o in found.outcomes for cause in o.causes if cause.name in fault.expected}
    return {
        **_row(result),
        "baselines": seen,
        "checks": sorted(checks),
        "limit": limit,
        "above_limit": case.dose is None or case.dose >= limit,
    }


def _row(result: Result) -> dict[str, Any]:
    return {**result.value(), "named": result.named and not result.wrong, "right_stage": result.right_stage}


def _baselines(subject: Any) -> dict[str, Any]:
    return {"metric": metric_difference(subject), "first": first_difference(subject)}


def _ablation(workshop: Workshop, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same case with each check switched off that had named it, and with all of them; its answers are known."""
    found = []
    for row in rows:
        case = Case(**row["case"])
        together = [row["checks"]] if len(row["checks"]) > 1 else []
        for without in [*([check] for check in row["checks"]), *together]:
            again, _ = workshop.diagnosis(case, without=without, keep=True)
            named = any(cause.name in row["expected"] for cause in again.causes)
            found.append({"label": row["label"], "check": " and ".join(without), "named": named})
    return found


def _healthy(workshop: Workshop, number: int, import_s: float) -> dict[str, Any]:
    recipe = {"seed": 100 + number, **_VARIATIONS[number % len(_VARIATIONS)]}
    seen: dict[str, Any] = {}
    found, wall_s = workshop.healthy(number, recipe, look=lambda subject: seen.update(_baselines(subject)))
    workshop.clear()
    workshop.forget(recipe)
    return {
        "label": f"{workshop.side} {recipe}",
        "causes": sorted({cause.name for cause in found.causes}),
        "deviating": sorted(
            {outcome.stage for outcome in found.outcomes if outcome.verdict in ("confirmed", "stage only")}
        ),
        "not_compared": sorted({f"{o.check}: {o.needs}" for o in found.of("not compared")}),
        "cost_s": found.cost_s + import_s,
        "wall_s": wall_s,
        "baselines": seen,
    }


def _say(row: dict[str, Any]) -> None:
    told = row.get("outcome") or ("ALARM" if row["causes"] or row["deviating"] else "healthy")
    causes = f" {','.join(row['causes'])}" if row["causes"] else f" {','.join(row['deviating'])}"
    sys.stderr.write(f"{told:12} {row['label']}{causes}  {row['cost_s']:.1f} s\n")
