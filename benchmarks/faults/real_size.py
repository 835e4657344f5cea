"""A real size: ALBERT xlarge with twice as many heads, which no shape of a tensor shows, diagnosed on this machine.

    python -m benchmarks.faults.real_size [--size xlarge]

The user's torch trainer, one line of it changed. Everything else is as in the benchmark, the study too, but for its
size. Printed: what was found, seconds of wall and CPU time, and the largest memory of any of the processes.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.faults.catalogue import FAULTS, apply
from benchmarks.faults.study import benchmark_study
from lossary.diagnosis.diagnose import Request, diagnose

_LIMIT_MINUTES = 20


def main() -> None:
    """Exits 1 where the heads are not named, alone, within the limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="xlarge", help="a size of the study file")
    options = parser.parse_args()
    fault = next(fault for fault in FAULTS if fault.code == "M4")
    with tempfile.TemporaryDirectory(prefix="lossary-real-size-") as name:
        study, folder = benchmark_study(Path(name) / "study", size=f'"{options.size}"')
        files = Path(name) / "user"
        apply(fault, "torch", dataset=None, dose=1.0, into=files)
        started = time.perf_counter()
        request = Request(first=str(files / "adapter_torch.py"), like="torch", threads=2)
        found = diagnose(study, folder, request, progress=lambda text: print(f"  {text}", file=sys.stderr, flush=True))
        minutes = (time.perf_counter() - started) / 60
    for outcome in found.outcomes:
        causes = "; ".join(f"{cause.name}: {cause.says}" for cause in outcome.causes)
        print(f"{outcome.check:14} {outcome.verdict:15} {causes or outcome.needs or outcome.measured}")
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20
    named = [cause.name for cause in found.causes] == ["heads"]
    print(
        f"{options.size}: {'named' if named else 'NOT named'} in {minutes:.1f} minutes (limit {_LIMIT_MINUTES}), "
        f"{found.cost_s:.0f} CPU seconds, {memory:.1f} GiB"
    )
    sys.exit(0 if named and minutes <= _LIMIT_MINUTES else 1)


if __name__ == "__main__":
    main()
