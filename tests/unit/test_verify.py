"""Damage to any file of a finished study is found, named and remedied, or changes no number anywhere."""

import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.scored import score_run
from typer.testing import CliRunner

from lossary.cli.main import app
from lossary.data.tokenizer import open_tokenizer
from lossary.diagnosis import traces
from lossary.diagnosis.model import Diagnosis
from lossary.errors import LossaryError
from lossary.files import read_json, write_json, write_plain_json
from lossary.folder import StudyFolder
from lossary.models.checkpoints import load_own_checkpoint, save_checkpoint, weights_digest
from lossary.models.parameters import initial_parameters
from lossary.models.shapes import AlbertShape
from lossary.models.update_laws import Moments
from lossary.reports.diagnosis import read_diagnosis_markdown, write_diagnosis
from lossary.reports.export import json_value
from lossary.results.records import STEP_SCHEMA, read_steps, write_steps
from lossary.study import Study
from lossary.tables.build import build_table
from lossary.tables.comparability import run_settings
from lossary.verify import REMEDIES, verify

_TRIES = 200
QUESTION = {"ids": np.arange(12), "rate": 0.25, "text": "ö"}
_KINDS = ("tokenizer", "prepared", "validation", "texts", "run", "steps", "checkpoint", "scores", "diagnosis")


@pytest.fixture
def finished(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> tuple[Study, StudyFolder]:
    """The tiny study with scores, records and a checkpoint of weights that nobody trained."""
    # The study is shared: other tests may have left a diagnosis, or a score, in it.
    shutil.copytree(prepared[1].root, tmp_path / "study", ignore=shutil.ignore_patterns("diagnosis", "runs"))
    study, folder = prepared[0], StudyFolder(tmp_path / "study")
    score_run(folder, "tf_a")
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
        tokenizer=open_tokenizer(folder),
    )
    score_run(folder, "torch_a", weights=weights_digest(weights))
    traces.store(folder.diagnosis / "traces" / "questions", QUESTION)
    # Logs of sides are nobody's numbers.
    write_plain_json(folder.diagnosis / "traces" / "logs" / "side.job.json", {"side": 1})
    write_diagnosis(Diagnosis(study="tiny", sides=("torch_a", "tf_a"), outcomes=()), folder)
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
    (trace,) = (folder.diagnosis / "traces" / "questions").glob("*.json")
    asked = {key: np.asarray(value).tolist() for key, value in traces.load(trace).items()}
    diagnosis = folder.diagnosis / "torch_a-tf_a.json"
    pages = [read_json(diagnosis), read_diagnosis_markdown(diagnosis.with_suffix(".md"))]
    pieces = open_tokenizer(folder).pieces
    return json.dumps([digests, state, vars(kept.shape), steps, settings, table, pieces, asked, pages])


def damage(path: Path, at: int, change: int) -> bytes:
    """Changes a byte; returns the file as it was."""
    whole = path.read_bytes()
    put(path, whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :])
    return whole


def cut(whole: bytes, rng: random.Random) -> bytes:
    return whole[: rng.randrange(len(whole))]


def grown(whole: bytes, rng: random.Random) -> bytes:
    return whole + rng.randbytes(rng.choice([1, 4096]))


def emptied(whole: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(whole)) // 4096 * 4096
    return whole[:start] + bytes(len(whole[start : start + 4096])) + whole[start + 4096 :]


def put(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    new.replace(path)


def names_of(path: Path) -> set[Path]:
    """As what `verify` may name a file: a checkpoint by its folder, arrays of a trace by its JSON."""
    return {path, path.parent, path.with_suffix(".json")}


def files_of(folder: StudyFolder) -> list[Path]:
    parts = ("tokenizer", "prepared", "validation", "runs", "diagnosis")
    found = [path for part in parts for path in sorted((folder.root / part).rglob("*")) if path.is_file()]
    # Samples of bad rows are for people; a spare copy of a name is no number.
    kinds = (".json", ".md", ".parquet", ".arrow", ".model", ".safetensors")
    return [path for path in found if path.suffix in kinds and path.parent.name != "logs"]


def test_a_whole_study_is_whole(finished: tuple[Study, StudyFolder]) -> None:
    files = list(verify(finished[1]))
    assert {file.kind for file in files} == set(_KINDS)
    assert {file.state for file in files} == {"whole"}
    known = {file.path for file in files}
    assert all(names_of(path) & known for path in files_of(finished[1]))


def test_a_flipped_byte_is_found_or_harmless(finished: tuple[Study, StudyFolder]) -> None:
    study, folder = finished
    expected = numbers(study, folder)
    files, rng = files_of(folder), random.Random(13)
    for number in range(_TRIES):
        path = files[number % len(files)]
        at = rng.randrange(path.stat().st_size)
        before = damage(path, at, rng.randrange(1, 256))
        damaged = {file.path for file in verify(folder) if file.state == "damaged"}
        assert names_of(path) & damaged, f"{path} byte {at}: {damaged}"
        with suppress(LossaryError):
            assert numbers(study, folder) == expected, f"{path} byte {at}"
        put(path, before)
    assert numbers(study, folder) == expected


@pytest.mark.parametrize("how", [cut, grown, emptied])
def test_a_file_of_another_length_or_with_a_lost_page_is_found_or_harmless(
    finished: tuple[Study, StudyFolder], how: Callable[[bytes, random.Random], bytes]
) -> None:
    study, folder = finished
    expected, rng = numbers(study, folder), random.Random(7)
    for path in files_of(folder):
        whole = path.read_bytes()
        if (data := how(whole, rng)) == whole:
            continue  # zeros where there were zeros
        put(path, data)
        damaged = {file.path for file in verify(folder) if file.state == "damaged"}
        assert names_of(path) & damaged, f"{path}: {damaged}"
        with suppress(LossaryError):
            assert numbers(study, folder) == expected, str(path)
        put(path, whole)


def test_a_manifest_in_the_place_of_another_is_damage_and_no_mistake_of_its_own(
    finished: tuple[Study, StudyFolder],
) -> None:
    _, folder = finished
    # Each is whole by its own checksum.
    manifests = sorted(folder.root.glob("prepared/**/manifest.json"))
    for path, other in zip(manifests, manifests[1:] + manifests[:1], strict=True):
        before = path.read_bytes()
        put(path, other.read_bytes())
        assert [file for file in verify(folder) if file.state == "damaged"], f"{other} at {path}"
        put(path, before)


@pytest.mark.parametrize("change", ["key", "blank", "spelling"])
def test_json_that_means_the_same_is_told_by_verify_alone(finished: tuple[Study, StudyFolder], change: str) -> None:
    path = finished[1].run("torch_a") / "run.json"
    before, text = run_settings(finished[1], "torch_a"), path.read_text()
    changed = {
        "key": text.replace('"checksum"', '"checkrum"'),
        "blank": text.replace(" ", "\t", 1),
        "spelling": text.replace('"torch"', '"t\\u006frch"'),
    }[change]
    assert changed != text
    put(path, changed.encode())
    if change == "key":
        with pytest.raises(LossaryError, match="name of its checksum"):
            run_settings(finished[1], "torch_a")
    else:
        assert run_settings(finished[1], "torch_a") == before
    assert [file.path for file in verify(finished[1]) if file.state == "damaged"] == [path]


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
