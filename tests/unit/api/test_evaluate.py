"""`lossary.evaluate` and `lossary evaluate --checkpoint` for models that lossary did not make."""

import json
import os
import shutil
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from tests.unit.api.test_docs import run_page
from tests.unit.cli.command import lossary as command
from tests.vocabularies import save_family

import lossary
from lossary.errors import CheckpointError, LossaryError, UsageError
from lossary.folder import StudyFolder
from lossary.results.origins import again
from lossary.results.records import read_header
from lossary.scoring.views import open_view
from lossary.study import Study
from lossary.vocabulary.open import open_vocabulary

pytestmark = pytest.mark.frameworks

EXAMPLES = [("out", 500), ("live", 500), ("by_call", 0)]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
CLASSES = {
    "bert": ("BertForMaskedLM", SIZES),
    "roberta": ("RobertaForMaskedLM", SIZES | {"max_position_embeddings": 130, "type_vocab_size": 1}),
    "gpt2": ("GPT2LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}),
}


@pytest.fixture
def folder(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> StudyFolder:
    shutil.copytree(prepared[1].root, tmp_path / "study")
    return StudyFolder(tmp_path / "study")


def make(family: str, place: Path, *, seed: int = 0) -> Path:
    """A random model with its tokenizer, as a `Trainer` saves them."""
    save_family(family, place)
    vocabulary = open_vocabulary(place)
    name, sizes = CLASSES[family]
    kind = getattr(transformers, name)
    pad = {} if vocabulary.specials.pad is None else {"pad_token_id": vocabulary.specials.pad}
    torch.manual_seed(seed)
    kind(kind.config_class(vocab_size=vocabulary.size, **pad, **sizes)).save_pretrained(place)
    return place


def load(place: Path) -> Any:
    return getattr(transformers, json.loads((place / "config.json").read_text())["architectures"][0]).from_pretrained(
        place
    )


def by_hand(model: Any, folder: StudyFolder, place: Path, objective: Any) -> dict[str, float]:
    """Nats a target of each dataset, from one example at a time."""
    view = open_view(folder, open_vocabulary(place), objective)
    sums: dict[str, tuple[float, int]] = {}
    for window in view.windows():
        examples = window.examples
        for row in range(len(examples)):
            length, targets = int(examples.lengths[row]), int(examples.masked[row])
            ids = torch.tensor(examples.token_ids[row : row + 1, :length]).long()
            types = {"token_type_ids": torch.tensor(examples.segment_ids[row : row + 1, :length]).long()}
            with torch.no_grad():
                logits = model(input_ids=ids, **(types if model.config.model_type == "bert" else {})).logits[0]
            at, labels = (torch.tensor(x[row, :targets]).long() for x in (examples.positions, examples.labels))
            nats, count = sums.get(window.dataset, (0.0, 0))
            nats -= float(torch.log_softmax(logits, dim=-1)[at, labels].double().sum())
            sums[window.dataset] = nats, count + targets
    return {name: nats / count for name, (nats, count) in sums.items()}


def losses(table: lossary.TableResult, run: str, metric: str) -> dict[str, float]:
    rows = table.to_arrow().to_pylist()
    return {
        row["dataset"]: row["value"]
        for row in rows
        if (row["run"], row["metric"]) == (run, metric) and row["dataset"] in ("pairs", "stories", "lines")
    }


@pytest.mark.parametrize(("family", "objective"), [("bert", "mlm"), ("roberta", "mlm"), ("gpt2", "clm")])
def test_a_model_is_scored_on_the_text_in_its_own_vocabulary(
    family: str, objective: str, folder: StudyFolder, tmp_path: Path
) -> None:
    place = make(family, tmp_path / "model")
    model, environment = load(place).train(), dict(os.environ)
    table = lossary.evaluate(model, folder.root, run="mine", step=500, tokenizer=place)
    assert model.training
    assert dict(os.environ) == environment
    expected = by_hand(model.eval(), folder, place, objective)
    assert losses(table, "mine", f"{objective}_loss") == pytest.approx(expected, rel=1e-5)
    scores = pq.read_table(folder.scores("mine", 500)).to_pylist()
    for name, bits in losses(table, "mine", f"{objective}_bits_per_byte").items():
        mine = [row for row in scores if row["dataset"] == name]
        nats, size = sum(row["nats"] for row in mine), sum(row["bytes"] for row in mine)
        assert bits == pytest.approx(nats / size / log(2), rel=1e-9)
    assert len(losses(table, "mine", f"{objective}_bits_per_byte")) == 3
    assert not any("tokenizer unknown" in note for note in table.model.notes)
    header = read_header(folder.scores("mine", 500))
    assert (header.objectives, header.backend, header.precision) == ((objective,), "transformers", "fp32")


def test_a_tokenizer_of_transformers_or_a_scorer_does_as_well(folder: StudyFolder, tmp_path: Path) -> None:
    place = make("bert", tmp_path / "model")
    model, tokenizer = load(place), transformers.AutoTokenizer.from_pretrained(place)
    named = lossary.evaluate(model, folder.root, run="named", tokenizer=place)
    objects = lossary.evaluate(model, folder.root, run="objects", tokenizer=tokenizer)
    scorer = lossary.HuggingFaceScorer(model, place)
    own = lossary.evaluate(scorer, lossary.open_study(folder.root), run="own", batch_size=7)
    expected = losses(named, "named", "mlm_loss")
    assert losses(objects, "objects", "mlm_loss") == expected
    assert losses(own, "own", "mlm_loss") == pytest.approx(expected, rel=1e-6)


def test_scores_of_the_same_weights_stand_and_of_others_are_made(folder: StudyFolder, tmp_path: Path) -> None:
    place = make("bert", tmp_path / "model")
    model = load(place)
    first = lossary.evaluate(model, folder.root, run="mine", step=3, tokenizer=place)
    path = folder.scores("mine", 3)
    written = path.stat().st_mtime_ns
    again = lossary.evaluate(model, folder.root, run="mine", step=3, tokenizer=place)
    assert path.stat().st_mtime_ns == written
    assert losses(again, "mine", "mlm_loss") == losses(first, "mine", "mlm_loss")
    with torch.no_grad():
        model.bert.embeddings.LayerNorm.weight.mul_(1.5)
    other = lossary.evaluate(model, folder.root, run="mine", step=3, tokenizer=place)
    assert losses(other, "mine", "mlm_loss") != losses(first, "mine", "mlm_loss")


def test_all_examples_of_the_page_run(folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("bert", tmp_path / "out" / "checkpoint-500")
    folder.root.rename(tmp_path / "my-study")
    monkeypatch.chdir(tmp_path)
    names = run_page("checkpoints.md", least=3)
    study = StudyFolder(tmp_path / "my-study")
    of_path, live, by_call = (read_header(study.scores(run, step)) for run, step in EXAMPLES)
    assert of_path.weights_digest == live.weights_digest == by_call.weights_digest
    assert names["table"].value("live", "stories", "mlm_loss") == pytest.approx(
        lossary.table("my-study").value("by_call", "stories", "mlm_loss"), rel=1e-6
    )


def test_checkpoints_of_a_training_are_steps_of_one_column(folder: StudyFolder, tmp_path: Path) -> None:
    places = [make("bert", tmp_path / "out" / f"checkpoint-{step}", seed=step) for step in (500, 1000)]
    for place in places:
        lossary.evaluate(load(place), folder.root, run="objects", step=int(place.name[11:]), tokenizer=place)
    arguments = [part for place in places for part in ("--checkpoint", str(place))]
    found = command("evaluate", str(folder.root), *arguments, timeout_s=300)
    assert found.returncode == 0, found.stderr
    assert found.stdout.endswith(f"scored out: `lossary show {folder.root}` prints the table\n")
    assert again(folder, "out", 1000) == (
        f"`lossary evaluate {folder.root} --checkpoint {places[1]} --step 1000 --name out`"
    )
    for step in (500, 1000):
        header, other = (read_header(folder.scores(run, step)) for run in ("objects", "out"))
        assert header.weights_digest == other.weights_digest
        first, second = (pq.read_table(folder.scores(run, step)).drop_columns(["run"]) for run in ("objects", "out"))
        # One scored in this process and one in its own: the number of threads is in the last bits.
        for column in first.column_names:
            ours, theirs = (combined.combine_chunks() for combined in (first[column], second[column]))
            if column in ("nats", "target_nats"):
                ours, theirs = (values.flatten() if column == "target_nats" else values for values in (ours, theirs))
                np.testing.assert_allclose(ours.to_numpy(False), theirs.to_numpy(False), rtol=1e-4)
            else:
                assert ours.equals(theirs)


def test_notes_are_printed_unless_somebody_takes_them(
    folder: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = make("bert", tmp_path / "model")
    torch.save(load(place).state_dict(), place / "pytorch_model.bin")
    said = "noted: its weights are read from model.safetensors; pytorch_model.bin: not read"
    lossary.evaluate(place, folder.root, run="noted")
    assert f"lossary: {said}\n" in capsys.readouterr().err
    folder.scores("noted", 0).unlink()
    notes: list[str] = []
    lossary.evaluate(place, folder.root, run="noted", note=notes.append)
    assert (notes, capsys.readouterr().err) == ([said], "")


def test_what_cannot_be_scored_is_one_clear_message(folder: StudyFolder, tmp_path: Path) -> None:
    place = make("bert", tmp_path / "model")
    model = load(place)

    def expect(message: str, *arguments: Any, run: str = "mine", kind: type[LossaryError] = UsageError, **more: Any):
        with pytest.raises(kind, match=message):
            lossary.evaluate(*arguments, folder.root, run=run, **more)

    expect(r"the model has \d+ pieces, the study's own vocabulary 120", model)
    expect("'torch_a' is a run of the study", model, run="torch_a", tokenizer=place)
    expect("step is 1.5", model, step=1.5, tokenizer=place)
    expect("dict is nothing that can be scored", {})
    expect("Linear is no model of transformers", torch.nn.Linear(2, 2))
    expect("int is no tokenizer", model, tokenizer=3)
    expect("a scorer has its tokenizer already", lossary.HuggingFaceScorer(model, place), tokenizer=place)
    expect("there is no such file or folder", tmp_path / "nowhere", kind=CheckpointError)
    expect("the tokenizer of a checkpoint is a path", place, tokenizer=3)
    assert not folder.run("mine").exists()
    (tmp_path / "empty").mkdir()
    found = command("evaluate", str(folder.root), "--checkpoint", str(tmp_path / "empty"))
    assert found.returncode == 3
    assert "cannot be scored as it is" in found.stderr
    strange = command("evaluate", str(folder.root), "--checkpoint", shutil.copytree(place, tmp_path / "größe α (1)"))
    assert (strange.returncode, "--name größe-α-1." in strange.stderr.replace("'", "")) == (2, True)
    both = command("evaluate", str(folder.root), "--checkpoint", str(place), "--backend", "jax")
    assert both.returncode == 2
    assert "BertForMaskedLM is scored by torch" in both.stderr
    alone = command("evaluate", str(folder.root), "--tokenizer", str(place))
    assert (alone.returncode, "--tokenizer says something of a checkpoint" in alone.stderr) == (2, True)
