"""To Weights & Biases: a project a study, a run a run; offline unless W&B is told otherwise."""

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from lossary.errors import MissingPackage
from lossary.files import made_folder
from lossary.integrations.series import TrackedRun

__all__ = ["write_wandb"]


def write_wandb(runs: Sequence[TrackedRun], target: str) -> str:
    """Logs below a folder, offline (`WANDB_MODE` says otherwise); says how to send it."""
    try:
        import wandb
    except ImportError:
        raise MissingPackage("the package wandb is not installed", hint="pip install wandb") from None
    with made_folder(Path(target)):
        settings = wandb.Settings(silent=True, console="off", x_disable_stats=True)
        mode = os.environ.get("WANDB_MODE", "offline")
        for run in runs:
            logged = wandb.init(
                project=run.study.replace("/", "-"),
                name=run.name,
                dir=target,
                config=run.facts,
                mode=mode,
                settings=settings,
            )
            for step, points in groupby(sorted(run.points, key=lambda point: point.step), key=lambda point: point.step):
                logged.log({point.name: point.value for point in points}, step=step)
            logged.finish()
    return (
        f"logged {len(runs)} runs to {Path(target) / 'wandb'}; now: wandb sync {Path(target) / 'wandb'}/offline-run-*"
    )
