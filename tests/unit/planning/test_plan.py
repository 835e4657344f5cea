"""Changes to a study with results: planned whole before anything is touched, and what must work does."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import TINY
from tests.scored import score_run

from lossary import pipeline
from lossary.data.batches import TrainingData
from lossary.data.frozen_texts import texts_folder
from lossary.data.parts import read_validation_manifest
from lossary.data.prepare import prepare_datasets
from lossary.data.validation import prepare_examples
from lossary.errors import CheckpointError, DataError, ScoreError, ShardError, SourceError, StudyError
from lossary.files import digest_file, read_json, write_json
from lossary.folder import StudyFolder
from lossary.launcher import NotesOnly
from lossary.models.checkpoints import begun_as
from lossary.planning.estimates import estimate
from lossary.planning.generations import begin_generation, remember_study_file
from lossary.planning.model import Plan
from lossary.planning.plan import make_plan
from lossary.planning.text import estimate_lines, plan_lines, refusal
from lossary.results.records import read_header
from lossary.stages.evaluate import checkpoints_of
from lossary.status import status_of
from lossary.study import Study
from lossary.study_file import parse_study
from lossary.tables.load import open_table
from lossary.training.plan import branch_point, course_of, plan_run, run_record
from lossary.verify import verify

TORCH_ONLY = TINY.split("[runs.tf_a]")[0]
MORE = ("[validation]", '[datasets.more]\nsource = "more.txt"\n[validation]')
SHARE = ("lines = 0.25 }", "lines = 0.25, more = 0.1 }")
RUN = '[runs.{}]\nbackend = "torch"\nsize = {{ from = "base", width = 0.0208, depth = 0.0833 }}\n'


def tree(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): digest_file(path) for path in sorted(root.rglob("*")) if path.is_file()}


def text(*changes: tuple[str, str], more: str = "") -> str:
    result = TORCH_ONLY
    for old, new in changes:
        assert old in result, old
        result = result.replace(old, new)
    return result + more


def begin(study: Study, folder: StudyFolder, run: str, *steps: int) -> None:
    """As if a run had been trained: its record, and checkpoints without weights."""
    plan = plan_run(study, folder, run)
    write_json(folder.run(run) / "run.json", run_record(study, plan, device="cpu", first_step=0, start=None))
    for step in steps:
        write_json(folder.checkpoint(run, step) / "state.json", {"step": step})


@pytest.fixture
def done(tiny_folder: StudyFolder) -> StudyFolder:
    """The tiny study with one run, trained and scored."""
    tiny_folder.study_file.write_text(TORCH_ONLY)
    lines = (tiny_folder.root / "lines.txt").read_text().splitlines()
    (tiny_folder.root / "more.txt").write_text("\n".join(line[::-1] for line in lines) + "\n")
    study = parse_study(TORCH_ONLY)
    prepare_datasets(study, tiny_folder, workers=1)
    prepare_examples(study, tiny_folder)
    begin(study, tiny_folder, "torch_a", 8, 12)
    score_run(tiny_folder, "torch_a")
    remember_study_file(tiny_folder)
    return tiny_folder


def planned(folder: StudyFolder, study_text: str, **how: list[str]) -> Plan:
    """The plan; asking writes nothing."""
    before = tree(folder.root)
    plan = make_plan(parse_study(study_text), folder, **how)
    assert tree(folder.root) == before
    return plan


def fates(plan: Plan) -> dict[str, str]:
    return {item.what: item.fate for item in plan.items}


def test_nothing_changed_is_nothing_to_do(done: StudyFolder) -> None:
    plan = planned(done, TORCH_ONLY)
    assert set(fates(plan).values()) == {"kept"}
    assert plan.changes == ()


def test_parts_without_text_are_given_it_where_the_sources_still_have_it(done: StudyFolder) -> None:
    for name in ("pairs", "lines"):
        shutil.rmtree(texts_folder(done, name))
    (done.root / "lines.txt").unlink()
    plan = planned(done, TORCH_ONLY)
    assert {what for what, fate in fates(plan).items() if fate == "made"} == {"texts pairs"}
    (line,) = [line for line in plan_lines(plan.changes) if "texts" in line]
    assert line == "made      texts pairs: read again from the sources; nothing else changes"


def test_a_dataset_comes(done: StudyFolder) -> None:
    found = fates(planned(done, text(MORE, SHARE)))
    assert {what for what, fate in found.items() if fate == "made"} == {"dataset more", "validation more"}
    assert found["run torch_a"] == "kept"
    assert found["scores torch_a"] == "anew"


def test_what_a_run_was_begun_with_stays_when_a_dataset_comes(done: StudyFolder) -> None:
    before = parse_study(TORCH_ONLY)
    batch = TrainingData(before, done, "torch_a", weights=plan_run(before, done, "torch_a").weights).batch(5)
    study = parse_study(text(MORE, SHARE, ("steps = 12", "steps = 20")))
    prepare_datasets(study, done, workers=1)
    prepare_examples(study, done)
    plan = plan_run(study, done, "torch_a")
    assert list(plan.weights) == ["pairs", "stories", "lines"]
    again = TrainingData(study, done, "torch_a", weights=plan.weights).batch(5)
    assert again.token_ids.tolist() == batch.token_ids.tolist()
    assert again.labels.tolist() == batch.labels.tolist()
    assert course_of(plan, done).fate == "goes on"


def test_more_steps_go_on_and_fewer_are_refused(done: StudyFolder) -> None:
    assert fates(planned(done, text(("steps = 12", "steps = 20"))))["run torch_a"] == "goes on"
    plan = planned(done, text(("steps = 12", "steps = 10")))
    assert fates(plan)["run torch_a"] == "refused"
    assert "12 steps are done, and 10 are asked for" in refusal(plan)


def test_the_record_says_from_where_on_the_schedule_changed(done: StudyFolder) -> None:
    study = parse_study(text(("steps = 12", "steps = 20")))
    record = run_record(study, plan_run(study, done, "torch_a"), device="cpu", first_step=12, start=None)
    assert record["history"] == [{"from": 0, "steps": 12}, {"from": 12, "steps": 20}]
    write_json(done.run("torch_a") / "run.json", record)
    again = run_record(study, plan_run(study, done, "torch_a"), device="cpu", first_step=16, start=None)
    assert again["history"] == record["history"]
    table = open_table(done.root).table
    assert "torch_a: under the schedule of 12 up to 12, then of 20" in table.notes


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("learning_rate = 0.003", "learning_rate = 0.004"), "recipe.optimizer.learning_rate: 0.003 before, 0.004 now"),
        (("batch_size = 8", "batch_size = 16"), "batch_size"),
        (("vocabulary_size = 120", "vocabulary_size = 100"), "vocabulary_size was 120, is 100"),
        (("seed = 3", "seed = 4"), "seed"),
        (("sequence_length = 32", "sequence_length = 24"), "length"),
        (('text = ["query", "answer"]', 'text = ["answer", "query"]'), "fields was"),
        (
            ('text = ["query", "answer"]', 'text = ["query", "answer"]\njoin = "\\n"'),
            "dataset pairs: it is read another way: join was not set, is '\\n'",
        ),
        (
            ('source = "stories.jsonl"', 'source = "stories.jsonl"\nwhere = "length(text) > 40"'),
            "dataset stories: it is read another way: where was not set, is 'length(text) > 40'",
        ),
        (('source = "lines.txt"', 'source = "lines.txt"\nlimit = 100'), "limit was not set, is 100"),
    ],
)
def test_what_would_lose_a_result_is_refused_and_named(done: StudyFolder, change: tuple[str, str], says: str) -> None:
    plan = planned(done, text(change))
    assert plan.refused
    assert says in refusal(plan)
    assert "torch_a" in plan.lost_runs
    assert any("--new-generation" in way for item in plan.refused for way in item.ways)


def test_a_source_that_grew_is_refused_with_ways_out(done: StudyFolder) -> None:
    with (done.root / "lines.txt").open("a") as file:
        file.write("one line more.\n")
    (item,) = planned(done, TORCH_ONLY).refused
    assert (item.what, len(item.ways)) == ("dataset lines", 4)
    assert not planned(done, TORCH_ONLY, keep=["lines"]).refused
    apart = planned(done, text(('source = "lines.txt"', 'source = "lines.txt"\ndrawn_as = "lines-2"')))
    assert not apart.refused
    assert (fates(apart)["dataset lines"], fates(apart)["run torch_a"]) == ("made", "kept")
    assert 'drawn_as = "lines-2" in [datasets.lines]' in item.ways[2]


def test_a_tokenizer_that_was_put_in_the_place_of_another_is_refused_and_found(done: StudyFolder) -> None:
    other = done.root.parent / "other"
    shutil.copytree(done.root, other, ignore=shutil.ignore_patterns("runs", "prepared", "validation", "tokenizer"))
    prepare_datasets(
        parse_study(text(("vocabulary_size = 120", "vocabulary_size = 100"))), StudyFolder(other), workers=1
    )
    shutil.rmtree(done.tokenizer)
    shutil.copytree(other / "tokenizer", done.tokenizer)
    plan = planned(done, TORCH_ONLY)
    assert "holds another one than the datasets were prepared with" in plan.refused[0].why
    assert not any("--keep-prepared" in way for item in plan.refused for way in item.ways)
    (damaged,) = [file for file in verify(done) if file.state == "damaged"]
    assert "not the tokenizer that prepared/lines, prepared/pairs, prepared/stories" in damaged.why


def test_a_run_in_the_folder_of_another_is_refused(done: StudyFolder) -> None:
    done.run("b").symlink_to("torch_a")
    plan = planned(done, text(more=RUN.format("b")))
    assert [item.what for item in plan.refused] == ["run b"]
    assert "is a link to the folder of run torch_a" in plan.refused[0].why


def test_before_anything_depends_on_it_a_change_is_simply_made(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    prepare_datasets(tiny_study, tiny_folder, workers=1)
    prepare_examples(tiny_study, tiny_folder)
    with (tiny_folder.root / "lines.txt").open("a") as file:
        file.write("one line more.\n")
    plan = planned(tiny_folder, TINY)
    assert not plan.refused
    assert fates(plan)["dataset lines"] == "anew"


def test_a_dataset_without_a_training_example_is_told_not_divided_by(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("A house is here. A tree is there.\n\nOne road. One river.\n" * 9)
    study = parse_study(
        'name = "one"\n[datasets.one]\nsource = "one.txt"\n[validation]\nexamples = 4\nmax_fraction = 0.9\n'
        '[recipe]\nsequence_length = 32\n[runs.a]\nbackend = "torch"\nsize = "base"\n'
    )
    folder = StudyFolder(tmp_path)
    prepare_datasets(study, folder, workers=1)
    prepare_examples(study, folder)
    sizes = estimate(study, folder)
    assert (sizes.datasets[0].training_examples, sizes.datasets[0].share) == (0, 0.0)
    assert estimate_lines(sizes)
    with pytest.raises(ShardError, match="dataset 'one' has no training example left") as caught:
        TrainingData(study, folder, "a")
    assert caught.value.hint


def test_a_missing_source_of_something_new_is_an_error_before_anything_is_touched(done: StudyFolder) -> None:
    before = tree(done.root)
    with pytest.raises(SourceError):
        make_plan(parse_study(text((MORE[0], MORE[1].replace("more.txt", "none.txt")), SHARE)), done)
    assert tree(done.root) == before


def test_a_plan_that_looks_tells_of_every_source_that_cannot_be_used(tiny_folder: StudyFolder) -> None:
    (tiny_folder.root / "lines.txt").unlink()
    (tiny_folder.root / "stories.jsonl").write_text('{"body": "no text"}\n')
    before = tree(tiny_folder.root)
    study = parse_study(TINY.replace('backend = "tensorflow"', 'backend = "torch"\ndevice = "mps"'))
    plan = make_plan(study, tiny_folder, looks=True)
    assert tree(tiny_folder.root) == before
    found = {item.what: item.why for item in plan.unusable}
    assert set(found) >= {"dataset lines", "dataset stories"}
    assert "lines.txt" in found["dataset lines"]
    assert "text" in found["dataset stories"]
    assert fates(plan)["dataset pairs"] == "made"
    if sys.platform != "darwin":
        assert "device mps" in found["run tf_a"]
    assert not plan.refused
    # Whoever is about to make it is stopped by the first of them.
    with pytest.raises(SourceError):
        make_plan(study, tiny_folder)


@pytest.mark.parametrize("data", [None, b"", b"no model"])
def test_a_plan_that_looks_tells_of_a_tokenizer_that_cannot_be_taken(
    tiny_folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], data: bytes | None
) -> None:
    # A path that begins with ~, as those of sources may.
    monkeypatch.setenv("HOME", str(tiny_folder.root))
    if data is not None:
        (tiny_folder.root / "spiece.model").write_bytes(data)
    study = parse_study(text(("vocabulary_size = 120", 'model = "~/spiece.model"')))
    (item,) = make_plan(study, tiny_folder, looks=True).unusable
    assert item.kind == "tokenizer"
    assert str(tiny_folder.root / "spiece.model") in item.why
    estimate(study, tiny_folder)
    assert capfd.readouterr().err == ""


def test_what_is_prepared_is_not_looked_into_again(done: StudyFolder) -> None:
    (done.root / "lines.txt").unlink()
    plan = make_plan(parse_study(TORCH_ONLY), done, looks=True)
    assert not plan.unusable
    assert fates(plan)["dataset lines"] == "kept"


@pytest.mark.parametrize("start", ['{ run = "torch_a" }', '{ run = "torch_a", step = 12 }'])
def test_a_branch_without_a_step_of_its_own_is_refused_in_the_plan(done: StudyFolder, start: str) -> None:
    lines = RUN.format("b") + f"start = {start}\n"
    if "step" in start:
        with pytest.raises(StudyError, match="starts at step 12"):
            parse_study(text(more=lines))
        return
    plan = planned(done, text(more=lines))
    assert fates(plan)["run b"] == "refused"
    assert "starts at step 12 of torch_a and has 12 steps" in refusal(plan)
    assert fates(planned(done, text(more=lines + "steps = 14\n")))["run b"] == "made"


def test_a_branch_starts_from_a_step_that_is_there(done: StudyFolder) -> None:
    at = text(more=RUN.format("b") + 'start = { run = "torch_a", step = 8 }\n')
    assert fates(planned(done, at))["run b"] == "made"
    assert branch_point(parse_study(at), done, "b") == done.checkpoint("torch_a", 8)
    wrong = at.replace("step = 8", "step = 9")
    plan = planned(done, wrong)
    assert fates(plan)["run b"] == "refused"
    assert "There are the steps 8, 12." in refusal(plan)
    with pytest.raises(CheckpointError, match="step 9"):
        branch_point(parse_study(wrong), done, "b")


def test_a_run_that_was_renamed_by_hand_is_recognised(done: StudyFolder) -> None:
    plan = planned(done, text(("[runs.torch_a]", "[runs.torch_b]")))
    (item,) = plan.refused
    assert item.what == "run torch_b"
    assert item.ways[0] == "call it torch_a again"


def test_what_left_the_study_file_is_left_over(done: StudyFolder) -> None:
    other = RUN.format("other") + "batch_size = 4\n"
    found = fates(planned(done, TORCH_ONLY.split("[runs.torch_a]")[0] + other))
    assert found["run torch_a"] == "left over"
    assert found["run other"] == "made"


@pytest.fixture
def changed(done: StudyFolder) -> tuple[Study, StudyFolder, dict[str, str]]:
    """The vocabulary was changed in the study file; what stood before, by digest."""
    before = tree(done.root)
    done.study_file.write_text(text(("vocabulary_size = 120", "vocabulary_size = 100")))
    return parse_study(done.study_file.read_text()), done, before


def test_a_generation_is_the_whole_study_as_it_was(changed: tuple[Study, StudyFolder, dict[str, str]]) -> None:
    study, folder, before = changed
    table = open_table(folder.root).table
    kept = begin_generation(folder, make_plan(study, folder))
    assert kept == folder.root / "generations" / "0001"
    found = tree(kept)
    wanted = {name: digest for name, digest in before.items() if "/" in name or name in ("study.toml", "made.toml")}
    assert found == wanted
    assert open_table(kept).table.cells == table.cells
    # What is made in its place leaves it as it was.
    assert not make_plan(study, folder).refused
    prepare_datasets(study, folder, workers=1)
    prepare_examples(study, folder)
    assert tree(kept) == wanted
    assert read_json(folder.tokenizer / "manifest.json")["vocabulary_size"] == 100


def test_a_generation_goes_on_without_sources(changed: tuple[Study, StudyFolder, dict[str, str]]) -> None:
    study, folder, _ = changed
    kept = StudyFolder(begin_generation(folder, make_plan(study, folder)))
    plan = make_plan(parse_study(kept.study_file.read_text()), kept)
    assert {item.fate for item in plan.items} == {"kept"}


def test_only_the_changed_run_is_made_anew(done: StudyFolder) -> None:
    study = parse_study(text(("learning_rate = 0.003", "learning_rate = 0.004")))
    prepared = tree(done.root / "prepared")
    begin_generation(done, make_plan(study, done))
    assert tree(done.root / "prepared") == prepared
    found = fates(make_plan(study, done))
    assert found["run torch_a"] == "made"
    assert found["validation lines"] == "kept"


def test_a_new_generation_has_as_many_examples_as_are_asked_for_now(done: StudyFolder) -> None:
    more = text(("examples = 60", "examples = 80"))
    study = parse_study(more)
    stays = next(item for item in make_plan(study, done).items if item.what == "validation lines")
    assert stays.fate == "kept"
    assert "--new-generation" in stays.why
    # That a `prepare` came between is no reason why they should stay.
    prepare_examples(study, done)
    assert read_validation_manifest(done)["per_dataset"]["lines"]["examples"] == 15
    assert not make_plan(study, done).refused
    done.study_file.write_text(more)
    told: list[str] = []
    listener = NotesOnly()
    listener.note = told.append  # type: ignore[method-assign]
    pipeline.prepare(study, done, workers=1, allowed=pipeline.Allowed(new_generation=True), listener=listener)
    assert read_validation_manifest(done)["per_dataset"]["lines"]["examples"] == 20
    kept = StudyFolder(done.generations / "0001")
    assert read_validation_manifest(kept)["per_dataset"]["lines"]["examples"] == 15
    assert kept.scores("torch_a", 12).is_file()
    assert not done.run("torch_a").exists()
    assert any("0001" in note for note in told)
    # What is as it was asked for is not made anew again.
    begin(study, done, "torch_a", 12)
    score_run(done, "torch_a")
    pipeline.prepare(study, done, workers=1, allowed=pipeline.Allowed(new_generation=True), listener=listener)
    assert [path.name for path in done.generations.iterdir()] == ["0001"]


def test_a_new_generation_for_another_change_lets_frozen_examples_stay(done: StudyFolder) -> None:
    study = parse_study(text(("examples = 60", "examples = 80"), ("learning_rate = 0.003", "learning_rate = 0.004")))
    score_run(done, "other")
    pipeline.prepare(study, done, workers=1, allowed=pipeline.Allowed(new_generation=True), listener=NotesOnly())
    assert read_validation_manifest(done)["per_dataset"]["lines"]["examples"] == 15
    assert not done.run("torch_a").exists()
    assert done.scores("other", 12).is_file()


@pytest.mark.parametrize("moment", ["link", "replace", "rmtree"])
def test_a_generation_is_there_whole_or_not_at_all(
    changed: tuple[Study, StudyFolder, dict[str, str]], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    from lossary.planning import generations

    study, folder, before = changed
    calls = 0

    def killed(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 3 or moment != "link":
            raise KeyboardInterrupt

    owner = {"link": (generations.os, "link"), "replace": (Path, "replace"), "rmtree": (generations.shutil, "rmtree")}
    with monkeypatch.context() as patched:
        patched.setattr(*owner[moment], killed)
        with pytest.raises(KeyboardInterrupt):
            begin_generation(folder, make_plan(study, folder))
    whole = [path for path in folder.generations.iterdir() if path.name.isdigit()]
    wanted = {name: digest for name, digest in before.items() if "/" in name or name in ("study.toml", "made.toml")}
    for path in whole:
        assert tree(path) == wanted
    if not whole:
        assert {name: digest for name, digest in tree(folder.root).items() if name in before} | {
            "study.toml": before["study.toml"]
        } == before
    if make_plan(study, folder).refused:
        begin_generation(folder, make_plan(study, folder))
    assert not make_plan(study, folder).refused


def test_sizes_are_those_of_the_shape_and_of_what_is_prepared(
    done: StudyFolder, make_study: Callable[..., Study]
) -> None:
    sizes = estimate(parse_study(TORCH_ONLY), done)
    assert [dataset.documents for dataset in sizes.datasets] == [300, 300, 300]
    assert sum(dataset.validation_examples or 0 for dataset in sizes.datasets) == 60
    (run,) = sizes.runs
    assert (run.steps_left, run.examples, run.seconds_left) == (0, 96, 0.0)
    assert run.memory_bytes == 16 * run.parameters
    assert sizes.notes == []
    other = '[runs.esm]\nbackend = "torch"\nmodel = { family = "esm", hidden_size = 8, num_attention_heads = 2 }\n'
    assert (
        "esm has no sentence-order head: trained by MLM alone" in estimate(parse_study(text(more=other)), done).notes[0]
    )
    empty = estimate(make_study(), StudyFolder(done.root / "nowhere"))
    assert [dataset.documents for dataset in empty.datasets] == [None] * 3
    assert empty.runs[0].seconds_left is None
    assert empty.notes[0] == "pairs, stories, lines: counts are known once `lossary prepare` has read the text"
    assert "vocabulary of 120 pieces" in empty.notes[1]


def branch(name: str, step: str = "") -> str:
    return RUN.format(name) + f'start = {{ run = "torch_a"{step} }}\n'


@pytest.mark.parametrize(
    ("changes", "more", "left"),
    [
        ([], branch("b", ", step = 8"), {"torch_a": 0, "b": 4}),
        ([], branch("b", ", step = 8") + "steps = 25\n", {"torch_a": 0, "b": 17}),
        ([], branch("b") + "steps = 25\n", {"torch_a": 0, "b": 13}),
        # The newest checkpoint is that of its last step: the run goes on before the branch begins.
        ([("steps = 12", "steps = 20")], branch("b") + "steps = 25\n", {"torch_a": 8, "b": 5}),
    ],
)
def test_the_steps_that_are_left_of_a_branch_are_those_from_its_start(
    done: StudyFolder, changes: list[tuple[str, str]], more: str, left: dict[str, int]
) -> None:
    sizes = estimate(parse_study(text(*changes, more=more)), done)
    assert {run.name: run.steps_left for run in sizes.runs} == left


def test_what_comes_later_does_not_hide_the_size_of_runs_that_keep_their_mixture(done: StudyFolder) -> None:
    before = estimate(parse_study(text(("steps = 12", "steps = 20"))), done)
    later = parse_study(text(MORE, SHARE, ("steps = 12", "steps = 20"), more=RUN.format("new")))
    sizes = {run.name: run.tokens for run in estimate(later, done).runs}
    # The new dataset is not prepared.
    assert sizes == {"torch_a": before.runs[0].tokens, "new": None}


def test_to_score_is_something_to_do(done: StudyFolder) -> None:
    """All steps are made, and a dataset that came is not scored yet."""
    sizes = estimate(parse_study(text(MORE, SHARE)), done)
    assert "time: no step is left to train." in estimate_lines(sizes)


@pytest.mark.parametrize("damage", ["", "{", "null", "[]", '{"recipe": {"steps'])
def test_a_damaged_record_of_a_run_says_what_to_do(done: StudyFolder, damage: str) -> None:
    path = done.run("torch_a") / "run.json"
    path.write_text(damage)
    study = parse_study(TORCH_ONLY)
    with pytest.raises(DataError) as error:
        make_plan(study, done)
    assert error.value.where == str(path)
    assert f"move {done.run('torch_a')} away" in (error.value.hint or "")
    assert f"{path}: " in status_of(done.study_file).next.text
    done.run("torch_a").rename(done.root / "away")
    assert fates(make_plan(study, done))["run torch_a"] == "made"


@pytest.mark.parametrize("kind", ["of another run", "of another step", "of another copy"])
def test_a_checkpoint_that_is_not_the_runs_own_is_refused_and_stays(done: StudyFolder, kind: str) -> None:
    # Of another copy: its run was trained for another number of steps up to here.
    path, record = done.checkpoint("torch_a", 12), read_json(done.run("torch_a") / "run.json")
    state = {"step": 12, "run": "torch_a", "begun": begun_as(record, 12), "weights_digest": "w"}
    write_json(path / "state.json", state)
    assert fates(planned(done, TORCH_ONLY))["run torch_a"] == "kept"
    recipe = record["description"]["recipe"] | {"batch_size": 9}
    other: dict[str, dict[str, object]] = {
        "of another run": {"run": "b", "begun": begun_as(record | {"description": {"recipe": recipe}}, 12)},
        "of another step": {"step": 8},
        "of another copy": {"begun": begun_as(record | {"history": [{"from": 0, "steps": 99}]}, 12)},
    }
    write_json(path / "state.json", state | other[kind])
    found = next(item for item in planned(done, TORCH_ONLY).items if item.kind == "run")
    assert found.fate == "refused"
    assert "step-00000012 is not its own" in found.why
    with pytest.raises(CheckpointError, match="step 8" if kind == "of another step" else "run.json"):
        checkpoints_of(done, "torch_a", "newest")
    assert any(file.path == path and file.state == "damaged" for file in verify(done))


def test_what_was_begun_is_the_same_with_keys_of_nothing(done: StudyFolder) -> None:
    record = read_json(done.run("torch_a") / "run.json")
    more = record | {
        "description": record["description"] | {"new": None, "recipe": record["description"]["recipe"] | {"n": None}}
    }
    assert begun_as(more, 12) == begun_as(record, 12)
    # What is planned from the checkpoint on is not part of it.
    later = record | {"history": [*record["history"], {"from": 12, "steps": 20}]}
    assert begun_as(later, 12) == begun_as(record, 12) != begun_as(later, 16)


def test_scores_of_other_weights_are_in_no_table_and_made_anew(done: StudyFolder) -> None:
    weights = read_header(done.scores("torch_a", 12)).weights_digest
    assert weights
    path = done.checkpoint("torch_a", 12) / "state.json"
    write_json(path, {"step": 12, "weights_digest": weights})
    assert fates(planned(done, TORCH_ONLY))["scores torch_a"] == "kept"
    assert not any("other weights" in note for note in open_table(done.root).table.notes)
    write_json(path, {"step": 12, "weights_digest": "blake2b:of another run"})
    assert fates(planned(done, TORCH_ONLY))["scores torch_a"] == "anew"
    with pytest.raises(ScoreError, match="no scores of this validation set"):
        open_table(done.root)


@pytest.mark.parametrize("how", [{}, {"keep": ["lines"]}])
def test_what_was_prepared_of_another_dataset_is_not_taken_for_its_own(
    done: StudyFolder, how: dict[str, list[str]]
) -> None:
    shutil.rmtree(done.dataset("lines"))
    shutil.copytree(done.dataset("stories"), done.dataset("lines"))
    found = next(item for item in planned(done, TORCH_ONLY, **how).items if item.what == "dataset lines")
    assert found.fate == "refused"
    assert "what lies there was made of stories" in found.why
