"""A model that is a function of bytes costs the same bits in two vocabularies; bytes not of the text are found."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from starlette.testclient import TestClient
from tests.vocabularies import byte_level, save_family
from transformers.convert_slow_tokenizer import bytes_to_unicode

import lossary
from lossary.dashboard.app import create_app
from lossary.data.frozen_texts import FrozenTexts, find_texts, read_texts
from lossary.findings.folder import check_table
from lossary.findings.model import Finding
from lossary.folder import StudyFolder
from lossary.reports.examples import GapView, examples_text
from lossary.reports.html.view import page_view
from lossary.results.records import read_header, write_scores
from lossary.study import Study
from lossary.tables.examples import Pair, open_gap
from lossary.tables.load import open_paired
from lossary.tables.texts import open_texts
from lossary.vocabulary.api import Vocabulary
from lossary.vocabulary.open import open_vocabulary

pytestmark = pytest.mark.frameworks
FAMILIES = ("short", "long")
# Strings of bytes get less than half of the probability, however many pieces spell the same: the rest is the padding's.
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_EACH_BYTE = 0.15
_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}


def scorer_of_bytes(vocabulary: Vocabulary, *, seed: int = 0) -> Any:
    """A piece's probability is the product of its bytes' fixed ones; a space in front of a word is no byte of it."""
    share = np.random.default_rng(seed).dirichlet(np.ones(256)) * 0.5 + 0.5 / 256
    cost = np.log(_EACH_BYTE * share)
    logits = np.full(vocabulary.size, -np.inf)
    for number, piece in enumerate(vocabulary.pieces):
        spelt = bytes(_BYTES[character] for character in piece) if set(piece) <= _BYTES.keys() else b""
        if spelt.strip() and not vocabulary.is_special[number]:
            logits[number] = cost[list(spelt.lstrip(b" "))].sum()
    logits[vocabulary.specials.pad] = np.log1p(-np.exp(logits[np.isfinite(logits)]).sum())
    assert np.exp(logits).sum() == pytest.approx(1)
    row = torch.from_numpy(np.maximum(logits, -1e4)).float()
    return lossary.ModuleScorer(lambda ids, *_: row.expand(*ids.shape, -1), vocabulary)


@pytest.fixture(scope="module")
def study(prepared: tuple[Study, StudyFolder], tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    root = tmp_path_factory.mktemp("bytes")
    shutil.copytree(prepared[1].root, root / "study", ignore=shutil.ignore_patterns("views", "runs"))
    # One knows nothing of the text, the other was made from it: its pieces are longer.
    save_family("roberta", root / "short")
    texts = [block for name in ("pairs", "stories") for block in read_texts(StudyFolder(root / "study"), name) or ()]
    made = byte_level(SPECIAL, texts=[block.bytes_of(row).decode() for block in texts for row in range(len(block))])
    merges = [tuple(pair) for pair in made["model"]["merges"]]
    transformers.RobertaTokenizer(vocab=made["model"]["vocab"], merges=merges).save_pretrained(root / "long")
    for family in FAMILIES:
        vocabulary = open_vocabulary(root / family)
        lossary.evaluate(scorer_of_bytes(vocabulary), root / "study", run=family, step=1)
    other = open_vocabulary(root / FAMILIES[0])
    lossary.evaluate(scorer_of_bytes(other, seed=1), root / "study", run="other", step=1)
    return StudyFolder(root / "study")


def of_bytes(root: Path) -> list[Finding]:
    found = lossary.check(root).model.findings
    return [finding for finding in found if finding.name == "bytes-not-of-the-text"]


def test_a_function_of_bytes_costs_equal_bits_in_two_vocabularies(study: StudyFolder) -> None:
    found = lossary.table(study.root).model
    assert found.is_across_vocabularies
    for row in found.datasets:
        bits, losses = (
            [found.cell(run, row.name, metric).value for run in FAMILIES]
            for metric in ("mlm_bits_per_byte", "mlm_loss")
        )
        assert bits[0] == pytest.approx(bits[1], rel=1e-6)
        assert losses[0] != pytest.approx(losses[1], rel=1e-2)
    compared = lossary.compare(*FAMILIES, study.root).model.table
    another = lossary.compare(FAMILIES[0], "other", study.root).model.table
    assert compared is not None
    assert another is not None
    for row in found.datasets:
        same, differs = (
            table.delta(run, row.name, "mlm_bits_per_byte")
            for table, run in ((compared, FAMILIES[1]), (another, "other"))
        )
        assert same is not None
        assert differs is not None
        assert same.value == pytest.approx(0, abs=1e-6)
        assert same.n == differs.n
        assert same.unmatched == 0
        assert abs(differs.value or 0) > 0.01


def hidden_words(text: FrozenTexts) -> list[str]:
    data = text.bytes_of(0)
    return [data[begin:end].decode() for begin, end in zip(text.begin, text.end, strict=True) if end > begin]


def letters(text: str) -> str:
    """Segments may stand the other way round, and blanks otherwise."""
    return "".join(sorted("".join(text.split())))


@pytest.mark.parametrize("runs", [FAMILIES, (FAMILIES[0], "other")], ids=["two vocabularies", "one of another"])
def test_hidden_words_are_shown_as_they_were_written(study: StudyFolder, runs: tuple[str, str]) -> None:
    opened = lossary.open_study(study.root)
    gap = open_gap(opened.study, study, Pair(first=runs[0], second=runs[1], dataset="stories"))
    rows = gap.page(limit=len(gap))
    texts = open_texts(study).of("stories", rows)
    frozen = find_texts(study, "stories", {row.example for row in rows})
    assert len(frozen) == len(rows) > 10
    for row, text in zip(rows, texts, strict=True):
        kept = frozen[row.example]
        shown = [part.masked for segment in text.segments for part in segment if part.masked]
        assert sorted(piece.target for piece in shown) == sorted(hidden_words(kept))
        assert not any(piece.predicted or piece.nats for piece in shown)
        assert letters(text.plain) == letters(kept.bytes_of(0).decode())
        assert "own pieces" in (text.reason or "")
    written = examples_text(GapView(gap=gap, order="worse", rows=rows[:1], texts=texts[:1]))
    assert all(f"[{part.masked.target}]" in " ".join(written.split()) for part in texts[0].segments[0] if part.masked)


def test_the_page_and_the_dashboard_show_the_words_of_the_text(study: StudyFolder) -> None:
    opened = open_paired(study.root)
    section = page_view(opened, check_table(opened, where="study")).examples
    for part in section.datasets:
        kept = [
            block.part(slice(row, row + 1))
            for block in read_texts(study, part.dataset) or ()
            for row in range(len(block))
        ]
        known = {(tuple(sorted(hidden_words(one))), letters(one.bytes_of(0).decode())) for one in kept}
        for view in part.examples:
            pieces = view.pieces + view.folded
            masked = tuple(sorted(piece.text for piece in pieces if piece.kind == "mask"))
            assert (masked, letters("".join(piece.text for piece in pieces))) in known
    client = TestClient(create_app([study.root]), base_url="http://localhost:8000")
    asked = {"dataset": "stories", "first": "short", "second": "long"}
    found = client.get("/s/study/examples", params=asked)
    assert found.status_code == 200
    assert "hidden words as they were written" in found.text
    assert '<bdi class="target" title="the model saw [MASK]">' in found.text


def test_bytes_of_the_text_pass(study: StudyFolder) -> None:
    assert [finding.severity for finding in of_bytes(study.root)] == ["pass"] * 3


@pytest.mark.parametrize("how", ["shuffled", "characters"])
def test_bytes_that_are_not_of_the_text_are_found(study: StudyFolder, tmp_path: Path, how: str) -> None:
    folder = StudyFolder(Path(shutil.copytree(study.root, tmp_path / "study")))
    path = folder.scores(FAMILIES[1], 1)
    rows = pq.read_table(path)
    counts = rows["bytes"].to_numpy()
    wrong = np.random.default_rng(0).permutation(counts) if how == "shuffled" else counts - (counts > 4)
    changed = rows.set_column(rows.column_names.index("bytes"), "bytes", pa.array(wrong, rows["bytes"].type))
    write_scores(path, changed, replace(read_header(path)))
    found = {finding.runs[0]: finding for finding in of_bytes(folder.root) if finding.severity == "error"}
    assert list(found) == [FAMILIES[1]]
    finding = found[FAMILIES[1]]
    assert "examples, first" in finding.measured
    assert finding.evidence[0]["first"] is not None
