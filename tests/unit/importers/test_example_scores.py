"""Scores of single examples that others made: lm-evaluation-harness' samples and Inspect's logs, paired by example.

The lines have the form that lm-evaluation-harness 0.4.13 writes; the numbers of tables are held against its formulas.
"""

import json
import math
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from lossary.api.functions import check, compare, import_files, rank, table
from lossary.errors import DataError, MissingPackage, SourceError, UsageError
from lossary.results.importers.maps import parse_maps
from lossary.results.importers.recognise import read_any
from lossary.tables.imported_examples import EXAMPLES

NO_MAPS = parse_maps([])
DATE = "2026-11-29T17-11-16.559190"
Line = dict[str, Any]


def hashed(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def sample(number: int, metrics: Line, *, kind: str = "none", prompt: str = "Q: {}\nA:") -> Line:
    """A line as the harness writes it."""
    doc, target = {"q": f"wörld {number}"}, str(number)
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": prompt.format(doc["q"]), "arg_1": f" {target}"}},
        "resps": [[["-1.9981276234692373", "True"]]],
        "filtered_resps": [["-1.9981276234692373", "True"]],
        "filter": kind,
        "metrics": list(metrics),
        "doc_hash": hashed(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": hashed(prompt.format(doc["q"])),
        "target_hash": hashed(target),
        **metrics,
    }


def write_samples(folder: Path, task: str, lines: Sequence[Line], *, date: str = DATE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_{task}_{date}.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def of_text(nats: float, size: int) -> Line:
    """What a task that asks for the likelihood of whole texts says of one."""
    words = max(1, size // 5)
    return {"word_perplexity": [-nats, words], "byte_perplexity": [-nats, size], "bits_per_byte": [-nats, size]}


class Texts:
    """Two runs on two tasks: on `news` the second is worse by a third, on `wiki` they differ by noise."""

    def __init__(self, root: Path, n: int = 40) -> None:
        rng = np.random.default_rng(0)
        self.sizes = rng.integers(40, 200, n)
        common = rng.uniform(0.9, 1.1, n)
        self.nats = {
            (run, task): self.sizes
            * common
            * (1.3 if (run, task) == ("m__2", "news") else 1)
            * rng.uniform(0.99, 1.01, n)
            for run in ("m__1", "m__2")
            for task in ("wiki", "news")
        }
        self.right = {run: rng.random(n) < share for run, share in (("m__1", 0.9), ("m__2", 0.4))}
        for (run, task), nats in self.nats.items():
            lines = [
                sample(i, of_text(float(y), int(x))) for i, (y, x) in enumerate(zip(nats, self.sizes, strict=True))
            ]
            write_samples(root / run, task, lines[::-1])
        for run, right in self.right.items():
            write_samples(
                root / run, "arc", [sample(i, {"acc": float(r), "acc_norm": 0.0}) for i, r in enumerate(right)]
            )


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Texts]:
    root = tmp_path_factory.mktemp("texts")
    made = Texts(root / "out")
    import_files(root / "out", out=root / "read")
    return root / "read", made


def test_numbers_are_those_of_the_harness_with_intervals_and_how_many(texts: tuple[Path, Texts]) -> None:
    read, made = texts
    found = table(read).model
    for (run, task), nats in made.nats.items():
        bits, words = found.cell(run, task, "bits_per_byte"), found.cell(run, task, "word_loss")
        assert bits.value == pytest.approx(nats.sum() / made.sizes.sum() / math.log(2))
        assert words.value == pytest.approx(nats.sum() / np.maximum(1, made.sizes // 5).sum())
        assert bits.n == 40
        assert bits.low is not None
        assert bits.high is not None
        assert bits.low < bits.value < bits.high
    for run, right in made.right.items():
        assert found.cell(run, "arc", "accuracy").value == pytest.approx(right.mean())
        assert found.cell(run, "arc", "norm_accuracy").value == 0
    assert [row.validation_examples for row in found.datasets] == [40, 40, 40]
    assert not found.is_imported


def test_two_runs_are_paired_by_example_and_adjusted_together(texts: tuple[Path, Texts]) -> None:
    read, made = texts
    found = compare("m__1", "m__2", read).model
    assert found.table is not None
    assert not found.checks.refused
    worse, noise = (found.table.delta("m__2", task, "bits_per_byte") for task in ("news", "wiki"))
    assert worse is not None
    assert noise is not None
    assert worse.differs
    assert not noise.differs
    assert (worse.n, worse.unmatched) == (40, 0)
    change = made.nats["m__2", "news"].sum() - made.nats["m__1", "news"].sum()
    assert worse.value == pytest.approx(change / made.sizes.sum() / math.log(2))
    # Pairing takes out what makes a text hard for both.
    assert worse.high is not None
    assert worse.low is not None
    alone = found.table.cell("m__2", "news", "bits_per_byte")
    assert alone.high is not None
    assert alone.low is not None
    assert worse.high - worse.low < alone.high - alone.low
    right = found.table.delta("m__2", "arc", "accuracy")
    assert right is not None
    difference = made.right["m__2"].astype(float) - made.right["m__1"]
    assert right.value == pytest.approx(difference.mean())
    assert right.p == pytest.approx(ttest_1samp(difference, 0).pvalue, rel=0.8)
    assert right.adjusted_p is not None
    assert right.p is not None
    assert right.adjusted_p > right.p


def test_a_total_of_one_dataset_is_its_cell_with_its_interval(texts: tuple[Path, Texts]) -> None:
    found = table(texts[0], base="m__1").model
    for run in ("m__1", "m__2"):
        cell, total = found.cell(run, "arc", "accuracy"), found.find_total(run, "accuracy", "macro")
        assert total is not None
        assert (total.value, total.low, total.high, total.n) == (cell.value, cell.low, cell.high, 40)
        assert (total.interval, total.variance) == ("wilson95", cell.variance)
    of_arc, whole = found.delta("m__2", "arc", "accuracy"), found.delta("m__2", None, "accuracy")
    assert of_arc is not None
    assert whole is not None
    assert (whole.value, whole.low, whole.high, whole.p) == (of_arc.value, of_arc.low, of_arc.high, of_arc.p)
    # Of two datasets they are put together.
    several = found.find_total("m__1", "bits_per_byte", "macro")
    assert several is not None
    assert several.interval == "welch95"


def test_imported_scores_of_examples_are_ranked_with_intervals(texts: tuple[Path, Texts]) -> None:
    found = rank(texts[0], by="bits_per_byte")
    assert [c.run for c in found.model.candidates] == ["m__1", "m__2"]
    assert found.may_be_best == [found.model.candidates[0].name]
    with pytest.raises(UsageError, match="one step each"):
        rank(texts[0], every_step=True)


def test_check_finds_the_gap_of_one_task_by_tests(texts: tuple[Path, Texts]) -> None:
    gap = next(finding for finding in check(texts[0]).model.findings if finding.name == "gap-dataset-specific")
    assert gap.severity == "warning", gap
    assert gap.measured.startswith("news"), gap
    assert gap.p is not None
    assert gap.p < 0.05


def altered(root: Path, at: int, **changes: Any) -> Path:
    """Two runs of one task, of which the second has one other line."""
    lines = [sample(i, {"acc": float(i % 2)}) for i in range(12)]
    write_samples(root / "out/a", "arc", lines)
    write_samples(root / "out/b", "arc", [line | changes if i == at else line for i, line in enumerate(lines)])
    import_files(root / "out", out=root / "read")
    return root / "read"


def test_another_prompt_is_refused_with_the_example_and_what_differs(tmp_path: Path) -> None:
    found = compare("a", "b", altered(tmp_path, 7, prompt_hash=hashed("another")))
    assert found.model.table is None
    (refused,) = found.model.checks.refused
    assert refused.second == "example 7 of arc was asked in another way: another prompt by the hash"
    forced = compare("a", "b", tmp_path / "read", force=True).model
    assert forced.table is not None
    delta = forced.table.delta("b", "arc", "accuracy")
    assert delta is not None
    assert (delta.value, delta.n) == (0, 12)


def test_an_example_of_one_run_only_is_named_in_every_view(tmp_path: Path) -> None:
    read = altered(tmp_path, 11, doc_id=99)
    found = table(read, base="a").model
    delta = found.delta("b", "arc", "accuracy")
    assert delta is not None
    assert delta.value is None
    assert "b, arc: no difference to a: example 11 of arc is one of a only" in found.notes
    assert compare("a", "b", read).model.checks.refused


def test_a_file_that_was_cut_at_a_line_is_told_by_the_table_and_found_by_check(tmp_path: Path) -> None:
    lines = [sample(i, {"acc": float(i % 2)}) for i in range(12)]
    for run, kept in (("a", lines), ("b", lines[:5]), ("c", lines)):
        write_samples(tmp_path / "out" / run, "arc", kept)
        write_samples(tmp_path / "out" / run, "hella", lines)
    import_files(tmp_path / "out", out=tmp_path / "read")
    (note,) = table(tmp_path / "read").model.notes
    assert note.startswith("arc: runs have different examples: 12 examples of a, c; 5 of b")
    (found,) = (item for item in check(tmp_path / "read").model.findings if item.name == "different-examples")
    assert (found.severity, found.measured) == ("warning", "12 examples of a, c; 5 of b")
    assert found.datasets == ["arc"]


def test_as_many_examples_that_were_asked_in_another_way_are_found_and_the_same_ones_pass(tmp_path: Path) -> None:
    read = altered(tmp_path, 7, prompt_hash=hashed("another"))
    assert table(read).model.notes[0].startswith("arc: runs have different examples: 12 examples of a; other 12 of b")
    write_samples(tmp_path / "out/b", "arc", [sample(i, {"acc": float(i % 2)}) for i in range(12)])
    import_files(tmp_path / "out", out=read)
    assert not table(read).model.notes
    (found,) = (item for item in check(read).model.findings if item.name == "different-examples")
    assert found.severity == "pass"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"doc_id": 2}, "example 2 of arc stands there twice under acc: first in line 3"),
        ({"prompt_hash": None}, "example 5 has no prompt_hash"),
        ({"doc_id": "five"}, "it has no doc_id"),
        ({"acc": 7.0}, "acc of example 5, unlike that of others: not between 0 and 1"),
        ({"acc_norm": 1.0}, "example 0 of arc has acc and no acc_norm"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path: Path, change: Line, said: str) -> None:
    lines = [sample(i, {"acc": 1.0}) for i in range(9)]
    lines[5] |= change
    if "acc_norm" in change:
        del lines[5]["acc"]
    path = write_samples(tmp_path, "arc", lines)
    write_samples(tmp_path, "other", [sample(i, {"acc": 1.0}) for i in range(9)])
    for place in (path, tmp_path):
        with pytest.raises(SourceError) as refused:
            read_any(place, NO_MAPS)
        assert said in refused.value.message
        assert str(path) in (refused.value.where or "")


def test_a_line_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = write_samples(tmp_path, "arc", [sample(i, {"acc": 1.0}) for i in range(3)])
    path.write_text(path.read_text()[:-40])
    with pytest.raises(SourceError, match="not JSON") as refused:
        read_any(path, NO_MAPS)
    assert refused.value.where == f"{path}, line 3"


def test_filters_are_metrics_of_their_own_and_unknown_ones_wait_for_the_map(tmp_path: Path) -> None:
    lines = [
        sample(i, {"exact_match": float(kind == "strict-match"), "bleu": 0.25, "f1": [0, 1]}, kind=kind)
        for kind in ("strict-match", "flexible-extract")
        for i in range(4)
    ]
    path = write_samples(tmp_path / "m", "gsm8k", lines)
    found = read_any(path, NO_MAPS)
    assert {scores.metric: scores.y.mean() for scores in found.examples} == {
        "strict_match_exact_match_accuracy": 1.0,
        "flexible_extract_exact_match_accuracy": 0.0,
    }
    reasons = {mapped.source: mapped.reason for mapped in found.mapping if mapped.reason}
    assert "--map 'bleu,strict-match=TASK:bleu_strict_match_accuracy'" in (reasons["bleu,strict-match"] or "")
    assert reasons["f1,strict-match"] == "not one number for each example"
    mapped = read_any(path, parse_maps(["bleu,strict-match=gsm8k:bleu_accuracy"]))
    assert any(scores.metric == "bleu_accuracy" and scores.y[0] == 0.25 for scores in mapped.examples)


def test_a_folder_that_is_refused_names_all_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    (tmp_path / "a.eval").write_text("no log")
    (tmp_path / "b.eval").write_text("no log either")
    for at in range(5):
        path = tmp_path / f"2026-11-29T10-00-0{at}+00-00_arc_x.json"
        path.write_text('{"version": 2, "eval": {"eval_id": "x"}}')
    with pytest.raises(SourceError) as refused:
        read_any(tmp_path, NO_MAPS)
    said = str(refused.value.hint)
    assert "lossary[inspect]" in said
    assert str(tmp_path / "a.eval") in (refused.value.where or "")
    for name in ("b.eval", *(f"0{at}+00-00_arc_x.json" for at in range(5))):
        assert name in said, name


def test_steps_of_one_model_are_told_apart_and_the_last_evaluation_counts(tmp_path: Path) -> None:
    for step, value in (("step100", 0.0), ("step200", 1.0)):
        write_samples(tmp_path / step / "org__m", "arc", [sample(i, {"acc": value}) for i in range(3)])
    earlier = [sample(i, {"acc": 0.0}) for i in range(3)]
    write_samples(tmp_path / "step200/org__m", "arc", earlier, date="2026-11-28T09-00-00.000001")
    found = read_any(tmp_path, NO_MAPS)
    assert {scores.run: scores.y.mean() for scores in found.examples} == {"step100/org__m": 0.0, "step200/org__m": 1.0}
    assert any("2026-11-28" in note and "evaluated again later" in note for note in found.notes)


def write_results(folder: Path, model: str, results: Line, *, samples: int = 4, date: str = DATE) -> None:
    value = {"results": results, "model_name": model, "n-samples": {"arc": {"original": 99, "effective": samples}}}
    (folder / f"results_{date}.json").write_text(json.dumps(value, indent=2))


def test_hidden_folders_of_local_models_are_read_and_called_as_their_users_do(tmp_path: Path) -> None:
    folders = (".__step1000", "__home__u__step2000", "org__m", ".__ckpts__step3000", "c__d", "plain")
    for at, name in enumerate(folders):
        write_samples(tmp_path / str(at) / name, "arc", [sample(i, {"acc": 1.0}) for i in range(4)])
    write_results(tmp_path / "0/.__step1000", "./step1000", {})
    write_results(tmp_path / "2/org__m", "org/m", {})
    # A folder that its user called otherwise keeps its name, and so do other hidden ones.
    write_results(tmp_path / "4/c__d", "another/model", {})
    (tmp_path / "0/.cache").mkdir()
    (tmp_path / "0/.cache/log.txt").write_text("step 1 loss 2.3\nstep 2 loss 2.2\n")
    (tmp_path / "0/.__step1000/log.txt").write_text("step 1 loss 2.3\nstep 2 loss 2.2\n")
    found = read_any(tmp_path, NO_MAPS)
    assert found.runs == {"step1000", "step2000", "org/m", "step3000", "c__d", "plain"}
    assert not found.curves
    assert read_any(tmp_path / "0/.__step1000" / f"samples_arc_{DATE}.jsonl", NO_MAPS).runs == {"step1000"}


def test_models_of_one_name_are_told_apart_by_what_is_above_them(tmp_path: Path) -> None:
    for name in ("x/.__hf", "y/.__hf", "z/.__hf", "z/hf", "z/.__a__hf", ".__only"):
        write_samples(tmp_path / name, "arc", [sample(i, {"acc": 1.0}) for i in range(3)])
    found = read_any(tmp_path, NO_MAPS)
    assert found.runs == {"x/hf", "y/hf", "z/.__hf", "z/hf", "z/a__hf", "only"}
    assert len(found.examples) == 6


def test_results_beside_samples_are_named_and_what_they_say_otherwise_is_a_conflict(tmp_path: Path) -> None:
    scores = [
        {"acc": float(i % 2), "word_perplexity": [-10.0 - i, 5], "bits_per_byte": [-10.0 - i, 20]} for i in range(4)
    ]
    means = {"word_perplexity,none": math.exp(46 / 20), "bits_per_byte,none": 46 / 80 / math.log(2)}
    for run, acc in (("a", 0.5), ("b", 0.75)):
        write_samples(tmp_path / run, "arc", [sample(i, line) for i, line in enumerate(scores)])
        write_results(tmp_path / run, run, {"arc": {"alias": "arc", "acc,none": acc, **means}})
    found = read_any(tmp_path, NO_MAPS)
    conflict, left_out = found.notes
    assert conflict == (
        f"b, arc: in conflict, b/results_{DATE}.json says acc 0.75 where its samples give 0.5; the samples count"
    )
    assert left_out == f"left out, as the samples beside are read: a/results_{DATE}.json; b/results_{DATE}.json"
    assert [(mapped.run, mapped.source) for mapped in found.mapping if mapped.conflict] == [("b", "acc")]
    write_samples(tmp_path / "a", "arc", [sample(i, line) for i, line in enumerate(scores[:3])])
    assert any("4 samples where the file has 3" in note for note in read_any(tmp_path, NO_MAPS).notes)
    (tmp_path / "a/results_broken.json").write_text("{")
    unread = "left out, no results of lm-evaluation-harness: a/results_broken.json"
    assert unread in read_any(tmp_path, NO_MAPS).notes
    # Results of another evaluation say nothing of these samples.
    (tmp_path / f"b/results_{DATE}.json").rename(tmp_path / "b/results_2020-01-01T00-00-00.000000.json")
    assert not any(note.startswith("b, arc") for note in read_any(tmp_path, NO_MAPS).notes)


def test_a_number_that_is_none_leaves_its_cell_without_one(tmp_path: Path) -> None:
    lines = [sample(i, {"bits_per_byte": [float("nan") if i == 2 else -9.0, 5]}) for i in range(4)]
    write_samples(tmp_path / "out/m", "wiki", lines)
    import_files(tmp_path / "out", out=tmp_path / "read")
    cell = table(tmp_path / "read").model.cell("m", "wiki", "bits_per_byte")
    assert cell.value is None
    assert cell.reason is not None
    assert cell.reason.startswith("1 of 4 examples")


def test_importing_again_replaces_and_a_damaged_file_is_found(tmp_path: Path) -> None:
    for value in (0.0, 1.0):
        write_samples(tmp_path / "out/m", "arc", [sample(i, {"acc": value}) for i in range(3)])
        import_files(tmp_path / "out", out=tmp_path / "read")
    assert table(tmp_path / "read").model.cell("m", "arc", "accuracy").value == 1.0
    with pytest.raises(UsageError, match="single examples"):
        table(tmp_path / "read", base="nobody")
    path = tmp_path / "read" / EXAMPLES
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"damaged|checksum"):
        table(tmp_path / "read")


class Log(ModuleType):
    """What Inspect's package gives of two logs: `small.eval` and `large.eval`."""

    def __init__(self) -> None:
        super().__init__("inspect_ai.log")

    @staticmethod
    def read_eval_log(path: str, *, header_only: bool) -> Any:
        assert header_only
        return SimpleNamespace(eval=SimpleNamespace(model=f"mock/{Path(path).stem}", task="evals/sums"))

    @staticmethod
    def read_eval_log_samples(path: str) -> Any:
        good = Path(path).stem == "large"
        if Path(path).stem == "unfinished":
            raise RuntimeError("This log does not have all samples (status=error).")
        for at in range(6):
            for epoch in (1, 2):
                right = good or (at + epoch) % 2 == 0
                scores = {
                    "match": SimpleNamespace(value="C" if right else "I", metadata=None),
                    "perplexity": SimpleNamespace(value=1.0, metadata={"sum_log_probs": -9.0 - at, "num_tokens": 4}),
                }
                turn = SimpleNamespace(role="user", text=f"{at}+1?")
                yield SimpleNamespace(
                    id=f"s{at}", epoch=epoch, input=[turn], choices=None, target=str(at + 1), scores=scores
                )


def test_logs_of_inspect_are_read_by_its_package_and_epochs_are_no_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("small", "large", "unfinished"):
        (tmp_path / f"{name}.eval").write_bytes(b"PK\x03\x04\0")
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(MissingPackage) as missing:
        read_any(tmp_path / "small.eval", NO_MAPS)
    assert "lossary[inspect]" in str(missing.value.hint)
    monkeypatch.setitem(sys.modules, "inspect_ai", ModuleType("inspect_ai"))
    monkeypatch.setitem(sys.modules, "inspect_ai.log", Log())
    with pytest.raises(SourceError, match="all samples"):
        read_any(tmp_path / "unfinished.eval", NO_MAPS)
    import_files(tmp_path / "small.eval", tmp_path / "large.eval", out=tmp_path / "read")
    found = table(tmp_path / "read", base="mock/small").model
    cell = found.cell("mock/small", "sums", "match_accuracy")
    assert (cell.value, cell.n) == (0.5, 6)
    assert found.cell("mock/large", "sums", "loss").value == pytest.approx(sum(9.0 + at for at in range(6)) / 24)
    delta = found.delta("mock/large", "sums", "match_accuracy")
    assert delta is not None
    assert delta.value == 0.5
