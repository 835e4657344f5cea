"""Diagnoses every rebuilt case and prints what came out.

python -m benchmarks.faults.historical [NAME …]
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.faults.cases import flat_recipe
from benchmarks.faults.historical import CASES
from benchmarks.faults.study import benchmark_study
from lossary.diagnosis.diagnose import Request, diagnose


def main() -> None:
    """Exits 1 where a case is not named."""
    wanted = set(sys.argv[1:])
    missed = 0
    with tempfile.TemporaryDirectory(prefix="lossary-historical-") as name:
        for case in CASES:
            if wanted and case.name not in wanted:
                continue
            recipe = flat_recipe(case.recipe)
            title = "-".join(f"{key}-{value}" for key, value in sorted(recipe.items())) or "base"
            benchmark_study(Path(name) / "base")
            study, folder = benchmark_study(Path(name) / title, like=Path(name) / "base", **recipe)
            found = diagnose(study, folder, Request(first=str(case.adapter), like="torch"))
            causes = {cause.name for cause in found.causes}
            named = bool(causes & case.expected) and causes <= case.expected
            missed += not named
            stages = sorted({outcome.stage for outcome in found.outcomes if outcome.verdict == "stage only"})
            told = ", ".join(sorted(causes)) or (f"stage only: {', '.join(stages)}" if stages else "nothing")
            print(f"{'named' if named else 'MISSED':7} {case.code:4} {case.name:20} {told}  ({case.title})", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
