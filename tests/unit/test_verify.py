"""One flipped byte in any file of a finished study is found, named and remedied, or changes no number anywhere."""

import json
import random
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.scored import score_run
from typer.testing import CliRunner

from lossary.cli.main import app
from lossary.data.tokenizer import open_tokenizer
from lossary.errors import LossaryError
from lossary.files import write_json
from lossary.folder import StudyFolder
from lossary.models.checkpoints import load_own_checkpoint, save_checkpoint, weights_digest
from lossary.models.parameters import initial_parameters
from lossary.models.shapes import AlbertShape
from lossary.models.update_laws import Moments
from lossary.reports.export import json_value
from lossary.results.records import STEP_SCHEMA, read_steps, write_steps
from lossary.study import Study
from lossary.tables.build import build_table
from lossary.tables.comparability import run_settings
from lossary.verify import REMEDIES, verify

_TRIES = 200
_KINDS = ("tokenizer", "prepared", "validation", "run", "steps", "checkpoint", "scores")


@pytest.fixture
def finished(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> tuple[Study, StudyFolder]:
    """The tiny study with scores, records and a checkpoint of weights that nobody trained."""
    # The study is shared: other tests may have left a diagnosis, or a score, in it.
    shutil.copytree(prepared[1].root, tmp_path / "study", ignore=shutil.ignore_patterns("diagnosis", "runs"))
    study, folder = prepared[0], StudyFolder(tmp_path / "study")
    for run in ("torch_a", "tf_a"):
        score_run(folder, run)
    write_json(folder.run("torch_a") / "run.json", {"backend": "torch", "size": "base", "recipe": {"steps": 12}})
    record = {field.name: [1] for field in STEP_SCHEMA} | {"run": ["torch_a"], "dataset": ["lines"]}
    write_steps(folder.steps("torch_a"), pa.table(record))
    shape = AlbertShape(
        vocabulary_size=open_tokenizer(folder).vocabulary_size,
        hidden_size=4,
        num_layers=1,
        num_heads=2,
        intermediate_size=8,
        embedding_size=4,
        max_positions=32,
        initializer_range=0.02,
        layer_norm_epsilon=1e-12,
    )
    weights = initial_parameters(shape, 0)
    moments = Moments({k: v * 2 for k, v in weights.items()}, {k: v * 3 for k, v in weights.items()})
    save_checkpoint(
        folder.checkpoint("torch_a", 12),
        shape=shape,
        parameters=weights,
        moments=moments,
        state={"step": 12, "tokens": 1000, "backend": "torch"},
        tokenizer=folder.tokenizer / "spiece.model",
    )
    return study, folder


def numbers(study: Study, folder: StudyFolder) -> str:
    """All that a table, a resumed run and an evaluation read of results; tests/unit/data has what is prepared."""
    kept = load_own_checkpoint(folder.checkpoint("torch_a", 12))
    assert kept.moments is not None
    digests = [weights_digest(part) for part in (kept.parameters, kept.moments.m, kept.moments.v)]
    state = {key: kept.state[key] for key in ("step", "tokens", "backend", "weights_digest")}
    steps = read_steps(folder.steps("torch_a")).to_pylist()
    settings = run_settings(folder, "torch_a")
    table = json_value(build_table(study, folder, base="torch_a"))
    return json.dumps([digests, state, vars(kept.shape), steps, settings, table, open_tokenizer(folder).pieces])


def damage(path: Path, at: int, change: int) -> bytes:
    """Changes a byte; returns the file as it was."""
    whole = path.read_bytes()
    put(path, whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :])
    return whole


def put(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    new.replace(path)


def files_of(folder: StudyFolder) -> list[Path]:
    parts = ("tokenizer", "prepared", "validation", "runs")
    found = [path for part in parts for path in sorted((folder.root / part).rglob("*")) if path.is_file()]
    # Samples of bad rows are for people; a spare copy of a name is no number.
    return [path for path in found if path.suffix in (".json", ".parquet", ".arrow", ".model", ".safetensors")]


def test_a_whole_study_is_whole(finished: tuple[Study, StudyFolder]) -> None:
    files = list(verify(finished[1]))
    assert {file.kind for file in files} == set(_KINDS)
    assert {file.state for file in files} == {"whole"}
    known = {file.path for file in files}
    assert all({path, path.parent} & known for path in files_of(finished[1]))


def test_a_flipped_byte_is_found_or_harmless(finished: tuple[Study, StudyFolder]) -> None:
    study, folder = finished
    expected = numbers(study, folder)
    files, rng = files_of(folder), random.Random(13)
    found = 0
    for number in range(_TRIES):
        path = files[number % len(files)]
        at = rng.randrange(path.stat().st_size)
        before = damage(path, at, rng.randrange(1, 256))
        damaged = [file.path for file in verify(folder) if file.state == "damaged"]
        if damaged:
            assert {path, path.parent} & set(damaged), f"{path} byte {at}: {damaged}"
            found += 1
        with suppress(LossaryError):
            assert numbers(study, folder) == expected, f"{path} byte {at}"
        put(path, before)
    assert found > 0.9 * _TRIES
    assert numbers(study, folder) == expected


@pytest.mark.parametrize("kind", _KINDS)
def test_the_command_says_what_is_damaged_and_what_to_do(finished: tuple[Study, StudyFolder], kind: str) -> None:
    folder = finished[1]
    path = next(file.path for file in verify(folder) if file.kind == kind)
    path = path if path.is_file() else path / "model.safetensors"
    size = path.stat().st_size
    damage(path, size // 2, 0x55)
    told = CliRunner().invoke(app, ["verify", str(folder.root)])
    assert told.exit_code == 3
    assert REMEDIES[kind] in told.output
    value = json.loads(CliRunner().invoke(app, ["verify", str(folder.root), "--format", "json"]).output)
    assert {str(path), str(path.parent)} & {entry["path"] for entry in value["damaged"]}
    assert value["kinds"][kind]["damaged"] >= 1
    assert np.all([entry["why"] for entry in value["damaged"]])
