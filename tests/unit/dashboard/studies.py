"""Studies that are hard on pages: hostile names, many runs and datasets, missing cells."""

from pathlib import Path
from typing import Any

from lossary.files import write_json

__all__ = ["HOSTILE", "imported_study"]

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "../../etc/passwd",
    "..",
    "a/b?c=d&e#f%2e",
    '" onmouseover="alert(1)',
    "'); DROP TABLE scores; --",
    "{{ 7 * 7 }}",
    "\u202egnp.exe",
    "مرحبا بالعالم",
    "x" * 300,
]


def imported_study(root: Path, runs: list[str], datasets: list[str], *, sop: bool = True, holes: int = 0) -> Path:
    """A folder of imports with numbers that follow from their place; every `holes`-th cell is missing."""
    metrics = ["mlm_loss", "mlm_accuracy", *(["sop_loss", "sop_accuracy"] if sop else [])]
    numbers: list[dict[str, Any]] = []
    for i, run in enumerate(runs):
        for j, dataset in enumerate(datasets):
            for k, metric in enumerate(metrics):
                if holes and (i + j + k) % holes == 0:
                    continue
                value = (1 + (7 * i + 3 * j) % 50 / 10) if metric.endswith("loss") else ((i + j) % 10) / 10
                numbers.append(
                    {
                        "run": run,
                        "dataset": dataset,
                        "metric": metric,
                        "value": value,
                        "text": f"{value:.2f}",
                        "rounding": 0.005,
                        "link": "javascript:alert(1)" if k == 0 else "data:text/html,<script>alert(1)</script>",
                        "section": None,
                    }
                )
    described = [
        {"name": name, "train_rows": 1000 + 10 * j, "link": "javascript:alert(1)"} for j, name in enumerate(datasets)
    ]
    source = {
        "path": "/page.md",
        "kind": "markdown",
        "datasets": described,
        "numbers": numbers,
        "mapping": [],
        "notes": [],
    }
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / "imported.json", {"schema": 2, "name": "<b>a page</b>", "sources": [source]})
    return root
