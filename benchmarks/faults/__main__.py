"""Named faults in a user's training code, and healthy code: what `lossary diagnose` makes of them.

Every fault of the catalogue is a patch of the text of two user-style trainers (PyTorch, Keras), so that nothing but the
behaviour of the code tells that it is there. Each case is diagnosed against the reference; data faults in one of three
datasets at a time, at doses of 1, 5 and 30 %. Healthy trainers run under many seeds and declared recipes.

    python -m benchmarks.faults [--only D1,M4] [--side torch|keras] [--healthy 100] [--quick] [--json FILE]
    python -m benchmarks.faults --report FILE [FILE …]     # tables of stored results, run in parts

A run that was cut off goes on where it was, given the same `--json FILE` and the same code; what it has found so far is
in FILE.torch and FILE.keras, which `--report` reads, too.

Printed: a row a fault: how many cases were named, told as one of two that the evidence does not tell apart, only placed
in the right stage, wrongly named, missed; the smallest dose that was always named; the median cost in CPU seconds, the
import of the framework included. Then the same cases through two baselines, the ablation (a check switched off must
lose its faults), and the healthy pairs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.faults.catalogue import FAULTS, MORE, THREADS, UNLISTED
from benchmarks.faults.work import work

SIDES = ("torch", "keras")


def main() -> None:
    """Runs both sides beside each other and prints the tables; exits 1 where a target is missed."""
    options = _options()
    if options.report:
        sys.exit(report(_merged([json.loads(Path(name).read_text()) for name in options.report])))
    if options.worker:
        work(options)
        return
    sides = [options.side] if options.side else list(SIDES)
    with tempfile.TemporaryDirectory(prefix="lossary-faults-") as name:
        # Beside the result, so that the same command goes on where it was cut off.
        parts = [Path(f"{options.json}.{side}" if options.json else f"{name}/{side}") for side in sides]
        environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.faults", "--worker", side, *sys.argv[1:], "--json", str(part)],
                env=environment,
            )
            for side, part in zip(sides, parts, strict=True)
        ]
        codes = [worker.wait() for worker in workers]
        if any(codes):
            sys.exit(f"a worker failed: exit codes {codes}")
        found = [json.loads(part.read_text()) for part in parts]
    merged = _merged(found)
    if options.json:
        Path(options.json).write_text(json.dumps(merged, indent=1))
        for part in parts:
            part.unlink()
    sys.exit(report(merged))


def _merged(parts: Sequence[dict[str, list[dict[str, Any]]]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of several runs; of the same case, what the last one found."""
    found: dict[str, dict[tuple[str, str], dict[str, Any]]] = {"cases": {}, "healthy": {}, "ablation": {}}
    for part in parts:
        for key, rows in found.items():
            rows |= {(row["label"], row.get("check", "")): row for row in part[key]}
    return {key: list(rows.values()) for key, rows in found.items()}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="codes of faults, or `healthy`, with commas between")
    parser.add_argument("--side", choices=SIDES, help="only this side")
    parser.add_argument("--healthy", type=int, default=104, help="healthy diagnoses in all")
    parser.add_argument("--quick", action="store_true", help="one dataset and one dose a fault, few healthy ones")
    parser.add_argument("--json", default="", help="where to write every result")
    parser.add_argument("--report", nargs="+", metavar="FILE", help="print the tables of stored results, run nothing")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def report(found: dict[str, list[dict[str, Any]]]) -> int:
    """Prints the tables; 1 where something falls short of what is promised."""
    cases = found["cases"]
    listed, more = {fault.code for fault in FAULTS}, {fault.code for fault in MORE}
    if cases:
        _print_faults([row for row in cases if row["case"]["code"] in listed], "Faults of the catalogue")
        _print_faults([row for row in cases if row["case"]["code"] in more], "More names of the library")
        unlisted = [row for row in cases if row["case"]["code"] not in listed | more]
        _print_faults(unlisted, "Faults without a name: the right stage is all that can be said")
        _print_wrong(cases)
        _print_baselines(cases, found["healthy"])
    if found["ablation"]:
        _print_ablation(found["ablation"])
    alarms = [row for row in found["healthy"] if row["causes"] or row["deviating"]]
    if found["healthy"]:
        print(f"\nhealthy: {len(found['healthy'])} diagnoses, {len(alarms)} alarms")
        for row in alarms:
            print(f"  {row['label']}: {row['causes']} {row['deviating']}")
    costs = [row["cost_s"] for row in (*cases, *found["healthy"])]
    if costs:
        print(f"cost of a diagnosis: median {median(costs):.1f} CPU seconds, largest {max(costs):.1f}")
    return 1 if alarms or any(row["outcome"] == "wrong name" for row in cases) else 0


def _print_faults(rows: Sequence[dict[str, Any]], title: str) -> None:
    if not rows:
        return
    titles = {fault.code: fault.title for fault in (*FAULTS, *MORE, *UNLISTED, *THREADS)}
    print(f"\n{title}")
    print(
        f"{'code':10} {'named':>7} {'tied':>5} {'stage':>6} {'wrong':>6} {'missed':>7}  "
        f"{'always named from':17} {'cost':>5}  fault"
    )
    for code in dict.fromkeys(row["case"]["code"] for row in rows):
        own = [row for row in rows if row["case"]["code"] == code]
        count = _counted(own)
        print(
            f"{code:10} {count['named']:>3}/{len(own):<3} {count['tied']:>5} {count['stage only']:>6} "
            f"{count['wrong name'] + count['wrong stage']:>6} {count['abstained'] + count['raised']:>7}  "
            f"{_limit(own):17} {median(row['cost_s'] for row in own):5.1f}  {titles[code]}"
        )
    count = _counted(rows)
    above = [row for row in rows if row["above_limit"]]
    named = sum(row["named"] for row in above)
    print(
        f"{'all':10} {count['named']:>3}/{len(rows):<3} {count['tied']:>5} {count['stage only']:>6} "
        f"{count['wrong name'] + count['wrong stage']:>6} {count['abstained'] + count['raised']:>7}"
    )
    share = 100 * named / max(1, len(above))
    print(f"above the detection limit: {named} of {len(above)} named and confirmed, {share:.1f} %")


def _counted(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    kinds = ("named", "tied", "stage only", "wrong name", "wrong stage", "abstained", "raised")
    outcomes = [row["outcome"] for row in rows]
    return {kind: outcomes.count(kind) for kind in kinds}


def _limit(rows: Sequence[dict[str, Any]]) -> str:
    """The smallest dose from which on every case was named."""
    doses = sorted({row["case"]["dose"] for row in rows if row["case"]["dose"] is not None})
    if not doses:
        return ""
    kept = [d for d in doses if all(row["named"] for row in rows if row["case"]["dose"] >= d)]
    return f"{100 * kept[0]:g} %" if kept else "none"


def _print_wrong(rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        if row["outcome"] in ("wrong name", "wrong stage"):
            print(f"  {row['outcome']}: {row['label']}: {row['causes']} {row['deviating']}, expected {row['expected']}")


def _print_baselines(cases: Sequence[dict[str, Any]], healthy: Sequence[dict[str, Any]]) -> None:
    print("\nBaselines on the same cases")
    print(f"{'':36} {'named':>9} {'right stage':>12} {'noticed':>9} {'false alarms':>13}")
    total, sound = len(cases), len(healthy)
    ours = (
        sum(row["named"] for row in cases),
        sum(row["right_stage"] for row in cases),
        sum(bool(row["deviating"] or row["causes"]) for row in cases),
        sum(bool(row["deviating"] or row["causes"]) for row in healthy),
    )
    _print_baseline("lossary diagnose", ours, (total, sound))
    for key, title in (("metric", "difference of the loss beyond 1 %"), ("first", "first difference beyond 1e-5")):
        stages = sum(row["baselines"][key] == row["stage"] for row in cases)
        noticed = sum(row["baselines"][key] is not None for row in cases)
        alarms = sum(row["baselines"][key] is not None for row in healthy)
        _print_baseline(title, (0, stages, noticed, alarms), (total, sound))


def _print_baseline(title: str, counts: tuple[int, int, int, int], totals: tuple[int, int]) -> None:
    named, stages, noticed, alarms = counts
    cases, healthy = totals
    print(f"{title:36} {named:>5}/{cases:<3} {stages:>8}/{cases:<3} {noticed:>5}/{cases:<3} {alarms:>9}/{healthy}")


def _print_ablation(rows: Sequence[dict[str, Any]]) -> None:
    print("\nAblation: faults that are no longer named once the check that named them is switched off")
    for check in dict.fromkeys(row["check"] for row in rows):
        own = [row for row in rows if row["check"] == check]
        lost = [row["label"] for row in own if not row["named"]]
        kept = [row["label"] for row in own if row["named"]]
        print(f"  {check:32} lost {len(lost)} of {len(own)}" + (f"; still named: {', '.join(kept)}" if kept else ""))


if __name__ == "__main__":
    main()
