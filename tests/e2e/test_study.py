"""A whole study through the command line: made, stopped, killed, gone on with, changed; both frameworks."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.models.checkpoints import list_checkpoints
from lossary.study_file import parse_study

LOSSARY = [sys.executable, "-m", "lossary"]
ONE_RUN = "[runs.tf_a]"


def lossary(*arguments: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LOSSARY, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | environment,
        check=False,
    )


def results(folder: StudyFolder) -> dict[str, object]:
    """What must not depend on how a study came to its end."""
    found: dict[str, object] = {}
    study = parse_study(folder.study_file.read_text())
    for run in study.runs:
        last = list_checkpoints(folder.checkpoints(run))[-1]
        found[f"{run} weights"] = read_json(last / "state.json")["weights_digest"]
        scores = pq.read_table(folder.scores(run, study.recipe_of(run).steps))
        found[f"{run} scores"] = scores.to_pydict()
        steps = pq.read_table(folder.steps(run)).drop_columns(["elapsed_s"])
        found[f"{run} steps"] = steps.to_pydict()
    found["validation"] = read_json(folder.validation / "manifest.json")["digest"]
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, write_study: Callable[..., None]) -> StudyFolder:
    """The tiny study of three runs, run to its end."""
    root = tmp_path_factory.mktemp("finished")
    write_study(root)
    done = lossary("run", str(root))
    assert done.returncode == 0, done.stderr
    assert "total by val%" in done.stdout
    return StudyFolder(root)


def test_the_page_is_made_with_every_cell(finished: StudyFolder) -> None:
    table = read_json(finished.report / "table.json")
    assert {cell["run"] for cell in table["cells"]} == {"torch_a", "tf_a", "torch_stories"}
    assert all(cell["value"] is not None or cell["reason"] for cell in table["cells"])
    page = (finished.report / "report.md").read_text()
    assert page.startswith("# tiny\n")
    assert (finished.report / "curves-mlm.svg").is_file()
    html = (finished.report / "report.html").read_text(encoding="utf-8")
    assert all(f'<section id="{name}"' in html for name in ("verdict", "curves", "examples", "provenance"))


def test_torch_and_tensorflow_agree_to_the_printed_digits(finished: StudyFolder) -> None:
    table = read_json(finished.report / "table.json")
    values = {(cell["run"], cell["dataset"], cell["metric"]): cell["value"] for cell in table["cells"]}
    for (run, dataset, metric), value in values.items():
        if run == "torch_a" and value is not None and metric.endswith("loss"):
            assert values["tf_a", dataset, metric] == pytest.approx(value, abs=2e-4)


def test_running_again_does_nothing(finished: StudyFolder) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished.root / "runs").rglob("*") if path.is_file()}
    done = lossary("run", str(finished.root))
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in (finished.root / "runs").rglob("*") if path.is_file()} == before


def test_transformers_opens_a_checkpoint_without_a_missing_or_unexpected_key(finished: StudyFolder) -> None:
    code = """
import sys
from transformers import AlbertForPreTraining
_, info = AlbertForPreTraining.from_pretrained(sys.argv[1], output_loading_info=True)
assert not any(info[kind] for kind in info), info
"""
    for run in ("torch_a", "tf_a"):
        checkpoint = list_checkpoints(finished.checkpoints(run))[-1]
        subprocess.run(
            [sys.executable, "-c", code, str(checkpoint)], check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )


def test_a_checkpoint_of_one_backend_scores_the_same_in_another(finished: StudyFolder) -> None:
    checkpoint = list_checkpoints(finished.checkpoints("torch_a"))[-1]
    done = lossary(
        "evaluate", str(finished.root), "--checkpoint", str(checkpoint), "--backend", "jax", "--name", "in_jax"
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = (pq.read_table(finished.scores(run, 12)) for run in ("torch_a", "in_jax"))
    assert ours["nats"].to_pylist() == pytest.approx(theirs["nats"].to_pylist(), rel=1e-4)
    assert ours["targets"].equals(theirs["targets"])
    shown = lossary("show", str(finished.root), "--run", "in_jax", "--run", "torch_a")
    assert "in_jax" in shown.stdout
    (finished.run("in_jax") / "scores" / f"{12:08d}.parquet").unlink()


def test_batch_size_changes_no_score(finished: StudyFolder) -> None:
    checkpoint = str(list_checkpoints(finished.checkpoints("torch_a"))[-1])
    reference = pq.read_table(finished.scores("torch_a", 12))
    for size in ("1", "7", "64"):
        name = f"size{size}"
        done = lossary("evaluate", str(finished.root), "--checkpoint", checkpoint, "--name", name, "--batch-size", size)
        assert done.returncode == 0, done.stderr
        scores = pq.read_table(finished.scores(name, 12))
        for column in ("objective", "targets", "correct", "example"):
            assert scores[column].equals(reference[column]), (size, column)
        assert scores["nats"].to_pylist() == pytest.approx(reference["nats"].to_pylist(), rel=2e-6)
        (finished.run(name) / "scores" / f"{12:08d}.parquet").unlink()


def test_a_changed_recipe_is_refused_with_the_setting_named(finished: StudyFolder) -> None:
    text = finished.study_file.read_text()
    try:
        finished.study_file.write_text(text.replace("learning_rate = 0.003", "learning_rate = 0.004"))
        done = lossary("train", str(finished.root))
    finally:
        finished.study_file.write_text(text)
    assert done.returncode == 2
    assert "recipe.optimizer.learning_rate: 0.003 before, 0.004 now" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_goes_on_in_another_backend(tmp_path: Path, write_study: Callable[..., None]) -> None:
    write_study(tmp_path, ONE_RUN)
    path = tmp_path / "study.toml"
    short = path.read_text().replace("steps = 12", "steps = 12\nkeep_checkpoints = 9")
    path.write_text(short)
    assert lossary("train", str(tmp_path)).returncode == 3  # Nothing is prepared.
    assert lossary("run", str(tmp_path)).returncode == 0
    folder = StudyFolder(tmp_path)
    for checkpoint in list_checkpoints(folder.checkpoints("torch_a"))[1:]:
        subprocess.run(["rm", "-r", str(checkpoint)], check=True)
    reference = pq.read_table(folder.scores("torch_a", 12))
    path.write_text(short.replace('backend = "torch"', 'backend = "tensorflow"'))
    done = lossary("run", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "a checkpoint of torch" in done.stderr
    scores = pq.read_table(folder.scores("torch_a", 12))
    assert scores["nats"].to_pylist() == pytest.approx(reference["nats"].to_pylist(), rel=1e-3)


def test_a_diverging_run_stops_says_so_and_does_not_take_others_with_it(
    tmp_path: Path, write_study: Callable[..., None]
) -> None:
    write_study(tmp_path, ONE_RUN)
    with (tmp_path / "study.toml").open("a") as file:
        file.write(
            '[runs.wild]\nbackend = "torch"\nsize = { from = "base", width = 0.0208, depth = 0.0833 }\n'
            "optimizer = { learning_rate = 1e30, warmup = 0, clip_norm = 1e30 }\n"
        )
    done = lossary("run", str(tmp_path))
    assert done.returncode == 3
    assert "wild: step" in done.stderr
    assert "learning rate" in done.stderr
    assert "Traceback" not in done.stderr
    folder = StudyFolder(tmp_path)
    assert list_checkpoints(folder.checkpoints("torch_a"))
    assert folder.scores("torch_a", 12).is_file()
    assert not list_checkpoints(folder.checkpoints("wild"))


def test_ctrl_c_keeps_a_checkpoint_and_the_run_goes_on(
    tmp_path: Path, finished: StudyFolder, write_study: Callable[..., None]
) -> None:
    write_study(tmp_path)
    worker = subprocess.Popen(
        [*LOSSARY, "run", str(tmp_path)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    steps = StudyFolder(tmp_path).run("torch_a") / "run.json"
    while not steps.is_file():
        time.sleep(0.02)
    worker.send_signal(signal.SIGINT)
    _, errors = worker.communicate(timeout=120)
    assert worker.returncode == 130, errors
    assert "Traceback" not in errors
    assert lossary("run", str(tmp_path)).returncode == 0
    assert results(StudyFolder(tmp_path)) == results(finished)


def test_twenty_kills_change_nothing(tmp_path: Path, finished: StudyFolder, write_study: Callable[..., None]) -> None:
    """kill −9 at random moments of prepare, train and evaluate; then the same weights, steps and scores."""
    write_study(tmp_path)
    rng = random.Random(11)
    reached: set[str] = set()
    for kill in range(20):
        # On a slow machine a run needs longer to come to a checkpoint at all.
        longest = 9.0 if "checkpoints" in reached else 9.0 * 1.1**kill
        worker = subprocess.Popen(
            [*LOSSARY, "run", str(tmp_path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            worker.wait(timeout=rng.uniform(0.3, longest))
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        reached |= {path.name for path in (tmp_path / "runs").glob("*/*")} | {p.name for p in tmp_path.glob("*")}
        if worker.returncode == 0:
            break
        _end_orphans(tmp_path)
    done = lossary("run", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "checkpoints" in reached
    assert results(StudyFolder(tmp_path)) == results(finished)
    left = [str(path) for path in (tmp_path / "runs").rglob(".*")]
    assert not left


def _end_orphans(root: Path) -> None:
    """A worker ends by itself when its parent is gone."""
    for _ in range(100):
        found = subprocess.run(
            ["pgrep", "-f", f"{root}/logs"], capture_output=True, text=True, check=False
        ).stdout.split()
        if not found:
            return
        time.sleep(0.1)
    raise AssertionError(f"workers outlive their parent: {found}")


def test_a_foreign_checkpoint_without_its_order_head_scores_mlm_alone(finished: StudyFolder, tmp_path: Path) -> None:
    code = """
import sys
from transformers import AlbertForPreTraining, AlbertForMaskedLM
AlbertForMaskedLM.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])
"""
    checkpoint = list_checkpoints(finished.checkpoints("torch_a"))[-1]
    foreign = tmp_path / "masked_lm"
    subprocess.run([sys.executable, "-c", code, str(checkpoint), str(foreign)], check=True)
    done = lossary("evaluate", str(finished.root), "--checkpoint", str(foreign))
    assert done.returncode == 0, done.stderr
    assert "no sentence-order head" in done.stderr
    # Beside a run that has the head: a table of runs without one has no column for it.
    table = json.loads(lossary("export", str(finished.root), "--run", "masked_lm", "--run", "torch_a").stdout)
    cells = {(cell["dataset"], cell["metric"]): cell for cell in table["cells"] if cell["run"] == "masked_lm"}
    assert cells["stories", "sop_loss"]["value"] is None
    assert "head" in cells["stories", "sop_loss"]["reason"]
    ours = read_json(finished.report / "table.json")
    mlm = next(
        c["value"] for c in ours["cells"] if (c["run"], c["dataset"], c["metric"]) == ("torch_a", "stories", "mlm_loss")
    )
    assert cells["stories", "mlm_loss"]["value"] == pytest.approx(mlm, rel=1e-6)


def test_checkpoints_of_tensorflow_1_score_as_their_twins(finished: StudyFolder, tmp_path: Path) -> None:
    """Two at once, under names of their own; a run's weights under google-research's names are that run."""
    code = """
import json, sys
import tensorflow as tf
from lossary.models.checkpoints import load_checkpoint
from lossary.models.parameters import hf_config
from lossary.models.tf_albert import _wanted
from pathlib import Path
found = load_checkpoint(Path(sys.argv[1]))
out = Path(sys.argv[2])
out.mkdir()
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    for name, (own, is_kernel) in _wanted().items():
        value = found.parameters[own]
        tf.compat.v1.get_variable(name, initializer=value.T if is_kernel else value)
    tf.compat.v1.train.get_or_create_global_step()
    session.run(tf.compat.v1.global_variables_initializer())
    tf.compat.v1.train.Saver().save(session, str(out / "model.ckpt-7"))
(out / "albert_config.json").write_text(json.dumps({**hf_config(found.shape), "hidden_act": "gelu"}))
"""
    folder = StudyFolder(Path(shutil.copytree(finished.root, tmp_path / "study")))
    checkpoint = list_checkpoints(folder.checkpoints("torch_a"))[-1]
    made = tmp_path / "tf1"
    subprocess.run([sys.executable, "-c", code, str(checkpoint), str(made)], check=True, capture_output=True)
    options = ["--checkpoint", str(made / "model.ckpt-7"), "--checkpoint", str(checkpoint)]
    done = lossary("evaluate", str(folder.root), *options, "--name", "theirs", "--name", "ours")
    assert done.returncode == 0, done.stderr
    table = json.loads(lossary("export", str(folder.root), "--run", "theirs", "--run", "ours").stdout)
    values: dict[str, dict[tuple[str, str], object]] = {"theirs": {}, "ours": {}}
    for cell in table["cells"]:
        values[cell["run"]][cell["dataset"], cell["metric"]] = (cell["value"], cell["low"], cell["n"])
    assert values["theirs"] == values["ours"]
    runs = {run["name"]: run for run in table["runs"]}
    assert runs["theirs"]["weights_digest"] == runs["ours"]["weights_digest"]
    assert (runs["theirs"]["tokenizer"], runs["ours"]["tokenizer"]) == ("unknown", "same")
    shutil.copyfile(folder.tokenizer / "spiece.model", made / "30k-clean.model")
    options = ["--checkpoint", str(made), "--name", "theirs"]
    assert lossary("evaluate", str(folder.root), *options).returncode == 0
    table = json.loads(lossary("export", str(folder.root), "--run", "theirs").stdout)
    assert table["runs"][0]["tokenizer"] == "same"
