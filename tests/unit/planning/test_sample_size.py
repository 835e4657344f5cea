"""How many examples show a difference: what is asked for is what then suffices."""

import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.scored import score_run
from typer.testing import CliRunner

from lossary.cli.main import app
from lossary.data.validation import prepare_examples
from lossary.errors import ScoreError, UsageError
from lossary.folder import StudyFolder
from lossary.planning.estimates import Estimates
from lossary.planning.sample_size import SampleSizes, sample_sizes
from lossary.results.records import read_header, write_scores
from lossary.study_file import load_study

DATASETS = ("reform", "views", "dialogue")
# What manifests say is nothing to how many examples it takes.
UNKNOWN = Estimates(datasets=[], runs=[], notes=[])


@pytest.fixture
def study(synthetic: Callable[..., Any], planted: Any) -> Path:
    made = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow"}, name="samples")
    for run in ("torch_xxl", "tf_xxl"):
        made.score(run, {name: planted() for name in DATASETS})
    path: Path = made.folder.root
    return path


@pytest.fixture
def scored(prepared: tuple[Any, StudyFolder], tmp_path: Path) -> Path:
    """A prepared study with scores of two runs."""
    folder = StudyFolder(tmp_path / "scored")
    shutil.copytree(prepared[1].root, folder.root)
    score_run(folder, "torch_a")
    score_run(folder, "tf_a", mean=4.0)
    return folder.root


def seen(path: Path, difference: float) -> SampleSizes:
    return sample_sizes(load_study(path), StudyFolder(path), difference, UNKNOWN)


def test_a_smaller_difference_takes_more_by_its_square(study: Path) -> None:
    coarse, fine = seen(study, 0.1), seen(study, 0.01)
    pairs = [(c.needed, f.needed) for c, f in zip(coarse.datasets, fine.datasets, strict=True) if c.needed and f.needed]
    assert pairs
    for first, second in pairs:
        assert abs(second / first - 100) < 1


def test_a_pilot_that_is_too_small_is_not_relied_on(study: Path) -> None:
    found = seen(study, 0.01)
    small = [need for need in found.datasets if need.pilot < 30]
    assert small
    assert all(need.needed is None for need in small)
    assert found.own_shares is None
    assert found.validation == ""
    assert any("too few to know its spread" in note for note in found.notes)


def test_what_it_proposes_is_a_validation_table() -> None:
    from lossary.planning.sample_size import DatasetSample

    needs = [
        DatasetSample(name=name, pilot=50, runs="b − a", deviation=1.0, needed=needed, available=None)
        for name, needed in (("wiki", 4_000), ("code", 900))
    ]
    found = SampleSizes(
        difference=0.01,
        metric="mlm_loss",
        unit="nats",
        datasets=needs,
        keeping_shares=9_000,
        own_shares=4_900,
        seconds={},
        notes=[],
    )
    table = tomllib.loads(found.validation)["validation"]
    assert table == {"examples": 4_900, "shares": {"wiki": 4_000, "code": 900}}


def test_what_cannot_be_frozen_is_no_table_and_what_there_is_shows_more() -> None:
    from lossary.planning.sample_size import DatasetSample
    from lossary.planning.text import sample_lines

    def found(difference: float, needed: int, available: int) -> SampleSizes:
        need = DatasetSample(name="wiki", pilot=50, runs="b − a", deviation=1.0, needed=needed, available=available)
        return SampleSizes(
            difference=difference,
            metric="mlm_loss",
            unit="nats",
            datasets=[need],
            keeping_shares=needed,
            own_shares=needed,
            seconds={},
            notes=[],
        )

    lacking = found(0.05, 10_000, 900)
    assert lacking.validation == ""
    assert lacking.visible == 0.17  # 0.05 · √(10,000 / 900) = 0.1667
    text = "\n".join(sample_lines(lacking))
    assert "wiki needs 10,000 and has about 900" in text
    assert "`lossary plan --see 0.17`" in text
    assert "[validation]\n" not in text
    assert found(3.0, 10_000, 900).visible == 10.0
    assert found(0.05, 900, 900).visible is None
    nothing = found(0.05, 10, 0)
    assert nothing.validation == ""
    assert "--see" not in "\n".join(sample_lines(nothing))


def test_the_pilot_is_of_the_studys_own_vocabulary_where_two_runs_have_it(study: Path) -> None:
    before = seen(study, 0.01)
    own = study / "runs" / "tf_xxl" / "scores" / "00000100.parquet"
    foreign = study / "runs" / "foreign" / "scores" / own.name
    foreign.parent.mkdir(parents=True)
    header = replace(read_header(own), run="foreign", vocabulary="other", vocabulary_digest="blake2b:other")
    write_scores(foreign, pq.read_table(own), header)
    after = seen(study, 0.01)
    assert (after.metric, after.unit, after.datasets) == ("mlm_loss", "nats", before.datasets)
    assert {need.runs for need in after.datasets if need.runs} <= {"torch_xxl − tf_xxl", "tf_xxl − torch_xxl"}
    assert "foreign: of another vocabulary; left out of the pilot" in after.notes
    (study / "runs" / "torch_xxl" / "scores" / own.name).unlink()
    across = seen(study, 0.01)
    assert (across.metric, across.unit) == ("mlm_bits_per_byte", "bits a byte")


def test_so_many_examples_show_it_in_four_cases_of_five() -> None:
    from scipy.special import ndtri

    rng, difference, deviation, tests = np.random.default_rng(4), 0.02, 0.4, 3
    level = 0.05 / (2 * tests)
    n = int(np.ceil(((ndtri(1 - level) + ndtri(0.8)) / difference) ** 2 * deviation**2))
    drawn = rng.normal(difference, deviation, (600, n))
    t = drawn.mean(axis=1) / (drawn.std(axis=1, ddof=1) / np.sqrt(n))
    assert 0.76 < (t > -ndtri(level)).mean() < 0.84


def test_the_verb_says_it_in_text_and_json(scored: Path) -> None:
    text = CliRunner().invoke(app, ["plan", str(scored), "--see", "0.05"]).stdout
    assert "show a difference of 0.05 nats in mlm_loss" in text
    value = json.loads(CliRunner().invoke(app, ["plan", str(scored), "--see", "0.05", "-f", "json"]).stdout)
    assert all(need["available"] for need in value["see"]["datasets"])
    assert value["see"]["difference"] == 0.05


@pytest.fixture
def piloted(prepared: tuple[Any, StudyFolder], tmp_path: Path) -> Path:
    """As `scored`, with as many examples as a pilot takes."""
    folder = StudyFolder(tmp_path / "piloted")
    shutil.copytree(prepared[1].root, folder.root)
    text = folder.study_file.read_text().replace("examples = 60", "examples = 200  # at first\nmax_fraction = 0.9")
    folder.study_file.write_text("# head\n" + text)
    prepare_examples(load_study(folder.study_file), folder)
    score_run(folder, "torch_a")
    score_run(folder, "tf_a", mean=4.0)
    return folder.root


def plan_and_write(root: Path, difference: str, *more: str) -> tuple[str, object]:
    done = CliRunner().invoke(app, ["plan", str(root), "--see", difference, "--write", *more])
    return done.stdout, done.exception


@pytest.mark.parametrize(
    "shares",
    [
        "shares = { pairs = 0.25, stories = 0.5, lines = 0.25 }  # ours",
        'shares = "train"  # ours',
        "[validation.shares]  # ours\npairs = 1\nstories = 2\nlines = 1",
    ],
)
def test_the_table_is_written_into_the_study_file_whose_form_stays(piloted: Path, shares: str) -> None:
    file = piloted / "study.toml"
    file.write_text(file.read_text().replace("shares = { pairs = 0.25, stories = 0.5, lines = 0.25 }", shares))
    told, refused = plan_and_write(piloted, "1.0")
    assert refused is None
    written = file.read_text()
    table = tomllib.loads(written)["validation"]
    assert table["shares"].keys() == {"pairs", "stories", "lines"}
    assert table["examples"] == sum(table["shares"].values())
    assert table["max_fraction"] == 0.9
    assert all(comment in written for comment in ("# head", "# at first", "# ours"))
    assert "examples stay as they were frozen: runs depend on them" in told
    assert "--new-generation` keeps all that stands apart" in told
    again, _ = plan_and_write(piloted, "1.0")
    assert "has this table [validation] already" in again
    assert file.read_text() == written


def test_nothing_is_written_of_what_cannot_stand(piloted: Path) -> None:
    file = piloted / "study.toml"
    before = file.read_bytes()
    _, lacking = plan_and_write(piloted, "0.001")
    assert "pairs, stories, lines: fewer examples than it takes" in str(lacking)
    assert file.read_bytes() == before
    for more in (("--set", "seed=4"), ()):
        command = ["plan", str(piloted), "--write", *more, *(["--see", "1.0"] if more else [])]
        assert isinstance(CliRunner().invoke(app, command).exception, UsageError)
    file.write_text(file.read_text().replace("seed = 3", "seed = 4"))
    changed = file.read_bytes()
    _, lost = plan_and_write(piloted, "1.0")
    assert "nothing was written: this would lose what stands" in str(lost)
    assert file.read_bytes() == changed


def test_without_two_runs_there_is_no_pilot(study: Path) -> None:
    for path in (study / "runs" / "tf_xxl" / "scores").glob("*"):
        path.unlink()
    with pytest.raises(ScoreError, match="no two runs"):
        seen(study, 0.01)
    with pytest.raises(UsageError, match="is no difference"):
        seen(study, 0)
