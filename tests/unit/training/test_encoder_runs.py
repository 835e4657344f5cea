"""Runs of encoders of transformers, end to end: killed and taken up, branched, scored, converted, planned; refusals."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import TINY

from lossary import worker
from lossary.data.tokenizer import open_tokenizer
from lossary.errors import CheckpointError, StudyError, UsageError
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.models.checkpoints import check_checkpoint, checkpoint_step, list_checkpoints
from lossary.planning.estimates import estimate
from lossary.planning.plan import make_plan
from lossary.results.records import read_header, read_steps
from lossary.study import Study
from lossary.study_file import parse_study
from lossary.tables.build import build_table
from lossary.training.loop import train
from lossary.training.plan import course_of, plan_run

frameworks = pytest.mark.frameworks

BEFORE = TINY.split("[runs.torch_a]")[0]
MODEL = '{ family = "bert", hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 4, intermediate_size = 48 }'
STUDY = (
    BEFORE.replace("steps = 12", "steps = 24").replace(
        "checkpoint_every = 4", 'checkpoint_every = 4\nevaluate_every = 8\nkeep_best = "mlm_loss"'
    )
    + f"""
[runs.bert]
backend = "torch"
model = {MODEL}
[runs.branch]
backend = "torch"
model = {MODEL}
start = {{ run = "bert", step = 8 }}
optimizer.learning_rate = 0.001
[runs.modern]
backend = "torch"
model = {{ config = "modern.json", num_hidden_layers = 2 }}
"""
)
MODERN = {"model_type": "modernbert", "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 32}


@pytest.fixture
def make(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> Callable[..., StudyFolder]:
    """The prepared tiny study with another study file and a config.json."""

    def copy(name: str, text: str = STUDY, config: dict[str, Any] = MODERN) -> StudyFolder:
        shutil.copytree(prepared[1].root, tmp_path / name)
        (tmp_path / name / "study.toml").write_text(text)
        (tmp_path / name / "modern.json").write_text(json.dumps(config))
        return StudyFolder(tmp_path / name)

    return copy


def trained(folder: StudyFolder, run: str) -> list[str]:
    """Trains a run here; returns its notes."""
    notes: list[str] = []
    study = parse_study(folder.study_file.read_text())

    def emit(event: dict[str, Any]) -> None:
        notes.extend([event["text"]] if event["event"] == "note" else [])

    on_the_way = worker.ScoresOnTheWay(study, folder, run, score_last=True, emit=emit)
    train(study, folder, run, on_the_way=on_the_way, emit=emit)
    return notes


def outcome(folder: StudyFolder, run: str) -> dict[str, Any]:
    records = read_steps(folder.steps(run)).drop_columns(["elapsed_s"])
    states = {path.name: read_json(path / "state.json") for path in list_checkpoints(folder.checkpoints(run))}
    return {"records": records.to_pydict(), "states": states}


@frameworks
def test_a_run_that_is_killed_ends_as_one_that_is_not(make: Callable[..., StudyFolder]) -> None:
    whole, killed = make("whole"), make("killed")
    notes = trained(whole, "bert")
    assert sum("no sentence-order head" in note for note in notes) == 1
    code = f"""
from pathlib import Path
from lossary.folder import StudyFolder
from tests.unit.training.test_encoder_runs import trained
trained(StudyFolder(Path({str(killed.root)!r})), "bert")
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    while not list_checkpoints(killed.checkpoints("bert")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = [checkpoint_step(path) for path in list_checkpoints(killed.checkpoints("bert"))]
    assert done
    assert max(done) < 24
    trained(killed, "bert")
    assert outcome(killed, "bert") == outcome(whole, "bert")


@frameworks
def test_what_a_run_leaves_is_read_by_all_that_reads_runs(make: Callable[..., StudyFolder]) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    folder = make("study")
    trained(folder, "bert")
    trained(folder, "branch")
    notes = trained(folder, "modern")
    study = parse_study(folder.study_file.read_text())

    steps = {run: [checkpoint_step(p) for p in list_checkpoints(folder.checkpoints(run))] for run in study.runs}
    assert {8, 20, 24} <= set(steps["bert"])  # 8 is branched at, the best is kept, the last two stay
    assert read_json(folder.run("branch") / "run.json")["start"]["step"] == 8
    records = read_steps(folder.steps("bert"))
    assert set(records["sop_pairs"].to_pylist()) == {0}
    assert read_header(folder.scores("modern", 24)).objectives == ("mlm",)
    table = build_table(study, folder)
    for run in study.runs:
        cells = {cell.metric: cell for cell in table.cells if (cell.run, cell.dataset) == (run, "pairs")}
        assert cells["mlm_loss"].value is not None
        # No run of the study has a head for the order of segments, so that no column of it stands there empty.
        assert not any(metric.startswith("sop") for metric in cells)

    record = read_json(folder.run("modern") / "run.json")
    assert record["model"]["settings"]["num_hidden_layers"] == 2
    assert record["model_digest"].startswith("blake2b:")
    assert not any("left out" in note for note in notes)

    last = folder.checkpoint("modern", 24)
    assert check_checkpoint(last)
    model, told = AutoModelForMaskedLM.from_pretrained(last, output_loading_info=True, dtype="float32")
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert model.config.vocab_size == 120
    tokenizer, own = AutoTokenizer.from_pretrained(folder.checkpoint("bert", 24)), open_tokenizer(folder)
    for text in ("Bake lomi, Numi.", "  keba   QUI ß½ \n tis."):
        assert tokenizer(text)["input_ids"][1:-1] == np.asarray(own.encode([text])[0]).tolist()

    sizes = {run.name: run for run in estimate(study, folder).runs}
    assert sizes["modern"].parameters == sum(tensor.numel() for tensor in model.parameters())
    assert all(item.fate == "kept" for item in make_plan(study, folder).items if item.kind == "run")
    changed = parse_study(STUDY.replace("hidden_size = 32", "hidden_size = 16"))
    course = course_of(plan_run(changed, folder, "bert"), folder)
    assert course.fate == "refused"
    assert "hidden_size: 32 before, 16 now" in course.why
    (folder.root / "modern.json").write_text(json.dumps(MODERN | {"intermediate_size": 64}))
    assert "intermediate_size: 32 before, 64 now" in course_of(plan_run(study, folder, "modern"), folder).why


@frameworks
def test_another_model_does_not_start_from_a_checkpoint(make: Callable[..., StudyFolder]) -> None:
    head, tail = STUDY.split("[runs.branch]")
    folder = make("study", head + "[runs.branch]" + tail.replace("hidden_size = 32", "hidden_size = 16", 1))
    trained(folder, "bert")
    with pytest.raises(CheckpointError, match="size is not that of"):
        trained(folder, "branch")
    assert not (folder.run("branch") / "run.json").exists()


@frameworks
def test_settings_of_a_file_that_mean_nothing_are_said(make: Callable[..., StudyFolder]) -> None:
    notes = trained(make("study", config=MODERN | {"vocab_size": 50368, "gone": 1}), "modern")
    told = " ".join(notes)
    assert "no settings gone" in told
    assert "vocab_size is 120" in told


@frameworks
def test_a_diagnosis_says_that_it_knows_albert(make: Callable[..., StudyFolder]) -> None:
    from lossary.diagnosis.sides import resolve

    folder = make("study")
    with pytest.raises(UsageError, match="laws of ALBERT"):
        resolve(["bert"], parse_study(STUDY), folder, like=None, threads=1)


@pytest.mark.parametrize(
    ("old", "new", "where", "says"),
    [
        ('family = "bert"', 'family = "brt"', "model", "'bert'"),
        ("hidden_size = 32", "hiden_size = 32", "model", "'hidden_size'"),
        ('family = "bert"', 'family = "albert"', "model", "size ="),
        ('family = "bert", ', "", "model", "config.json"),
        ('backend = "torch"', 'backend = "tensorflow"', "bert", "hidden_dropout_prob is 0.1, as transformers has it"),
        (f'"torch"\nmodel = {MODEL}', '"jax"\nmodel = { family = "esm" }', "bert", "BERT and RoBERTa train on"),
        ('backend = "torch"', 'backend = "torch"\nsize = "base"', "bert", "one of them"),
        (f"model = {MODEL}", "", "bert", "one of them"),
        ('keep_best = "mlm_loss"', 'keep_best = "sop_loss"', "bert", "sentence-order head"),
    ],
)
def test_what_a_model_cannot_be_is_said_when_the_file_is_read(old: str, new: str, where: str, says: str) -> None:
    with pytest.raises(StudyError) as caught:
        parse_study(STUDY.replace(old, new, 1))
    assert str(caught.value.where).startswith("$.runs.bert")
    assert str(caught.value.where).endswith(where)
    assert says in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no such file"),
        ("{", "not readable as JSON"),
        ("[]", "not a JSON object"),
        ('{"hidden_size": 3}', "no model_type"),
        ('{"model_type": "gpt2"}', "no masked language model"),
        ('{"model_type": "albert"}', "by its size"),
    ],
)
def test_a_configuration_that_is_none_is_refused(make: Callable[..., StudyFolder], text: str | None, says: str) -> None:
    folder = make("study")
    path = folder.root / "modern.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(StudyError) as caught:
        plan_run(parse_study(STUDY), folder, "modern")
    assert says in f"{caught.value.message} {caught.value.where}"
    assert "$.runs.modern.model" in str(caught.value.where)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (MODERN, "BERT and RoBERTa"),
        ({"model_type": "bert", "hidden_dropout_prob": 0.0}, "attention_probs_dropout_prob"),
    ],
)
def test_a_configuration_that_keras_has_no_code_for_is_refused(
    make: Callable[..., StudyFolder], config: dict[str, Any], says: str
) -> None:
    folder = make("study", config=config)
    text = STUDY.replace('[runs.modern]\nbackend = "torch"', '[runs.modern]\nbackend = "tensorflow"')
    with pytest.raises(StudyError) as caught:
        plan_run(parse_study(text), folder, "modern")
    assert says in caught.value.message
