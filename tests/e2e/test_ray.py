"""A Ray cluster of several nodes on this machine: same digests, same weights, and a lost node loses nothing."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.conftest import TINY, write_tiny_sources

from lossary import pipeline
from lossary.backends.process import StopRequest
from lossary.data.manifests import read_manifest
from lossary.engines.api import Needs, Work, open_engine
from lossary.errors import RunError, StudyError, UsageError
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.launcher import NotesOnly
from lossary.models.checkpoints import list_checkpoints
from lossary.results.records import read_steps
from lossary.study import Study
from lossary.study_file import load_study, parse_study

pytestmark = [pytest.mark.slow, pytest.mark.frameworks]
_STUDY = TINY.split("[runs.tf_a]")[0].replace("steps = 12", "steps = 1500\nkeep_checkpoints = 99")
_STUDY = _STUDY.replace("checkpoint_every = 4", "checkpoint_every = 10").replace('"torch"', '"torch"\ndevice = "cpu"')


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that takes no work, and a node of one core."""
    pytest.importorskip("ray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        made.node = made.add_node(num_cpus=1)
        yield made
        made.shutdown()


def _lossary(verb: str, folder: Path, cluster: Any, *more: str) -> "subprocess.Popen[str]":
    address = f'engine.address="{cluster.address}"'
    command = [sys.executable, "-m", "lossary", verb, str(folder), "--engine", "ray", "--set", address, *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def _said(process: "subprocess.Popen[str]") -> str:
    said, _ = process.communicate(timeout=300)
    return said


@pytest.fixture(scope="module")
def folder(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """The tiny study, prepared on the cluster."""
    root = tmp_path_factory.mktemp("ray") / "study"
    write_tiny_sources(root)
    (root / "study.toml").write_text(_STUDY)
    process = _lossary("prepare", root, cluster)
    assert "pairs" in _said(process)
    assert process.returncode == 0
    return StudyFolder(root)


def test_what_a_cluster_prepares_is_what_one_machine_prepares(
    folder: StudyFolder, prepared: tuple[Study, StudyFolder]
) -> None:
    for name in ("pairs", "stories", "lines"):
        ours, theirs = (read_manifest(found.dataset(name)) for found in (folder, prepared[1]))
        assert ours["digest"] == theirs["digest"]
        assert ours["shards"] == theirs["shards"]


def _await_checkpoint(folder: StudyFolder, process: "subprocess.Popen[str]", run: str = "torch_a") -> None:
    until = time.monotonic() + 240
    while len(list_checkpoints(folder.checkpoints(run))) < 2:
        assert process.poll() is None, _said(process)
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_lost_node_and_an_interruption_lose_nothing(cluster: Any, folder: StudyFolder, tmp_path: Path) -> None:
    shutil.copytree(folder.root, tmp_path / "whole")
    whole = StudyFolder(tmp_path / "whole")
    # As many threads: bits depend on them.
    pipeline.train(load_study(whole.study_file), whole, threads=1, listener=NotesOnly())

    process = _lossary("train", folder.root, cluster)
    _await_checkpoint(folder, process)
    cluster.remove_node(cluster.node, allow_graceful=False)
    cluster.node = cluster.add_node(num_cpus=1)
    reached = len(list_checkpoints(folder.checkpoints("torch_a")))
    while process.poll() is None and len(list_checkpoints(folder.checkpoints("torch_a"))) < reached + 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = _said(process)
    assert "Ray lost the machine of its worker" in said
    # It may have been done before it was told.
    assert process.returncode in (0, 130), said
    again = _lossary("train", folder.root, cluster)
    said = _said(again)
    assert again.returncode == 0, said
    ours, theirs = (read_json(found.checkpoint("torch_a", 1500) / "state.json") for found in (folder, whole))
    assert ours["weights_digest"] == theirs["weights_digest"]
    assert sorted(set(read_steps(folder.steps("torch_a"))["step"].to_pylist())) == list(range(1, 1501))


def test_ranks_that_no_machine_has_room_for_are_of_several(cluster: Any, folder: StudyFolder, tmp_path: Path) -> None:
    text = _STUDY.replace('device = "cpu"', 'device = "cpu"\nranks = 2').replace("[runs.torch_a]", "[runs.shared]")
    text = text.replace("steps = 1500", "steps = 500\nevaluate_every = 500")
    whole, spread = StudyFolder(tmp_path / "whole"), StudyFolder(tmp_path / "spread")
    for made in (whole, spread):
        shutil.copytree(folder.root, made.root, ignore=shutil.ignore_patterns("runs"))
        made.study_file.write_text(text)
    pipeline.train(load_study(whole.study_file), whole, threads=2, listener=NotesOnly())

    other = cluster.add_node(num_cpus=1)
    process = _lossary("train", spread.root, cluster)
    _await_checkpoint(spread, process, "shared")
    cluster.remove_node(other, allow_graceful=False)
    other = cluster.add_node(num_cpus=1)
    said = _said(process)
    cluster.remove_node(other)
    assert process.returncode == 0, said
    assert "of 2 was lost: all go on from the last checkpoint" in said
    ours, theirs = (read_json(found.checkpoint("shared", 500) / "state.json") for found in (spread, whole))
    assert ours["weights_digest"] == theirs["weights_digest"]
    assert sorted(set(read_steps(spread.steps("shared"))["step"].to_pylist())) == list(range(1, 501))
    tables = [pq.read_table(found.scores("shared", 500)) for found in (spread, whole)]
    assert tables[0].equals(tables[1])


def test_what_no_machine_has_is_refused_before_anything_waits(cluster: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_engine("ray", cluster.address) as engine:
            work = Work(
                module="m", request={"folder": "."}, backend="torch", log=tmp_path / "a.log", needs=Needs(cpus=64)
            )
            with pytest.raises(RunError, match="it needs 64 CPUs, and the largest machine of the cluster has 1 CPUs"):
                engine.run(work, threads=1, emit=lambda _: None, stop=StopRequest())


def test_without_an_address_a_cluster_that_stands_here_is_left_alone(cluster: Any) -> None:
    code = (
        "import ray\nfrom lossary.engines.api import open_engine\n"
        "with open_engine('ray'):\n    print(ray.get_runtime_context().gcs_address)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip().rpartition(":")[2].isdecimal()
    assert told.stdout.strip() != cluster.address


def test_an_address_of_ray_client_is_refused() -> None:
    with pytest.raises(StudyError, match="Ray Client"):
        parse_study(TINY + '[engine]\nkind = "ray"\naddress = "ray://head:10001"\n')


def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    pytest.importorskip("ray")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(UsageError, match="no Ray cluster at"), open_engine("ray", address):
            pass
