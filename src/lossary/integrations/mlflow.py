"""To MLflow: an experiment a study, a run a run; each metric names its dataset and the digest of its examples."""

import time
from collections.abc import Sequence
from typing import Any

from lossary.errors import MissingPackage, UsageError
from lossary.files import digest_json
from lossary.integrations.series import TrackedRun

__all__ = ["write_mlflow"]

_MOST = 1000  # metrics that MLflow takes at once
_TAG = "lossary.points"  # the digest of a run's points, by which an export is known again


def write_mlflow(runs: Sequence[TrackedRun], target: str) -> str:
    """Logs to a tracking URI; an empty one is MLflow's own (MLFLOW_TRACKING_URI).

    A run that was logged with these very numbers stays as it is. UsageError where MLflow refuses.
    """
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise MissingPackage("the package mlflow is not installed", hint="pip install mlflow-skinny") from None
    try:
        client = MlflowClient(target or None)
        written = sum(_log(client, run) for run in runs)
    except MlflowException as error:
        raise UsageError(f"MLflow refused: {error.message}", where=target or "MLFLOW_TRACKING_URI") from None
    kept = len(runs) - written
    return f"logged {written} runs to {target or 'MLflow'}" + (f"; {kept} were there already" if kept else "")


def _log(client: Any, run: TrackedRun) -> bool:
    """False if it is there already."""
    from mlflow.entities import Metric, Param

    digest = digest_json([list(point) for point in run.points])
    experiment = client.get_experiment_by_name(run.study)
    identity = experiment.experiment_id if experiment else client.create_experiment(run.study)
    if client.search_runs([identity], filter_string=f"tags.`{_TAG}` = '{digest}'", max_results=1):
        return False
    made = client.create_run(identity, run_name=run.name, tags={_TAG: digest}).info.run_id
    now = int(time.time() * 1000)
    # MLflow takes 36 characters of a digest.
    metrics = [
        Metric(point.name, point.value, now, point.step, dataset_name=point.dataset, dataset_digest=point.digest[-36:])
        for point in run.points
    ]
    client.log_batch(made, params=[Param(name, value) for name, value in run.facts.items()])
    for start in range(0, len(metrics), _MOST):
        client.log_batch(made, metrics=metrics[start : start + _MOST])
    client.set_terminated(made)
    return True
