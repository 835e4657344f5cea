"""From sources to shards: the same bytes for any number of workers, kept when current, nothing half-written."""

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from lossary.data.prepare import prepare_datasets
from lossary.data.shards import open_dataset
from lossary.data.tokenizer import FIRST_PIECE, UNK, open_tokenizer
from lossary.errors import ShardError, SourceError, StudyError
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.study import Study


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_any_number_of_workers_gives_the_same_bytes(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    prepare_datasets(tiny_study, tiny_folder, workers=1)
    one = tree(tiny_folder.root / "prepared")
    shutil.rmtree(tiny_folder.root / "prepared")
    prepare_datasets(tiny_study, tiny_folder, workers=3)
    assert tree(tiny_folder.root / "prepared") == one


def test_what_is_current_is_kept_and_what_changed_is_made_again(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    said: list[str] = []
    before = prepare_datasets(tiny_study, tiny_folder, workers=1)
    assert prepare_datasets(tiny_study, tiny_folder, workers=1, progress=lambda text, *_: said.append(text)) == before
    assert said == []
    with (tiny_folder.root / "lines.txt").open("a") as file:
        file.write("one more line of text.\n")
    after = prepare_datasets(tiny_study, tiny_folder, workers=1)
    assert after["lines"]["rows"] == before["lines"]["rows"] + 1


def test_work_that_was_cut_short_goes_on_to_the_same_result(
    tiny_study: Study, tiny_folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lossary.data import prepare, sources, streams

    monkeypatch.setattr(sources, "BLOCK_BYTES", 4000)
    monkeypatch.setattr(streams, "_READ_BYTES", 1000)
    prepare_datasets(tiny_study, tiny_folder, workers=1)
    whole = tree(tiny_folder.root / "prepared")
    assert len(open_dataset(tiny_folder, "stories").shards) > 3
    shutil.rmtree(tiny_folder.root / "prepared")
    made = 0
    tokenise = prepare.tokenise_block

    def failing(*args: object, **kwargs: object) -> object:
        nonlocal made
        made += 1
        if made == 7:
            raise KeyboardInterrupt
        return tokenise(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare, "tokenise_block", failing)
    with pytest.raises(KeyboardInterrupt):
        prepare_datasets(tiny_study, tiny_folder, workers=1)
    prepare_datasets(tiny_study, tiny_folder, workers=1)
    assert tree(tiny_folder.root / "prepared") == whole
    assert made == 7 + sum(len(open_dataset(tiny_folder, name).shards) for name in tiny_study.datasets) - 6


def test_bad_rows_are_counted_sampled_and_left_out(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    with (tiny_folder.root / "stories.jsonl").open("ab") as file:
        file.write(b'{"text": "caf\xe9"}\n{"text": 1}\n' * 150)
    manifest = prepare_datasets(tiny_study, tiny_folder, workers=1)["stories"]
    assert (manifest["rows"], manifest["bad_rows"]) == (300, 300)
    assert manifest["bad_reasons"] == {"not UTF-8": 150, "'text' is number, not text": 150}
    samples = (tiny_folder.dataset("stories") / "quarantine.jsonl").read_text().splitlines()
    assert len(samples) == 100
    assert json.loads(samples[0])["row"] == 300


def test_a_source_without_a_usable_row_leaves_nothing_half_written(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    (tiny_folder.root / "lines.txt").write_text("\n \n")
    with pytest.raises(SourceError, match="'lines' has no usable row"):
        prepare_datasets(tiny_study, tiny_folder, workers=1)
    assert not tiny_folder.dataset("lines").exists()


def test_text_never_yields_special_pieces(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    with (tiny_folder.root / "lines.txt").open("a") as file:
        file.write("[CLS] a [SEP] b [MASK] <pad> <unk>\n" * 20)
    prepare_datasets(tiny_study, tiny_folder, workers=1)
    for shard in open_dataset(tiny_folder, "lines").shards:
        assert not np.isin(shard.ids, [i for i in range(FIRST_PIECE) if i != UNK]).any()


def test_sentences_end_at_full_stops_and_lines(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    (tiny_folder.root / "stories.jsonl").write_text(json.dumps({"text": "bake lomi. kelo stonu.\nvelba zanke"}) + "\n")
    prepare_datasets(tiny_study, tiny_folder, workers=1)
    shard, tokenizer = open_dataset(tiny_folder, "stories").shards[0], open_tokenizer(tiny_folder)
    ends = [0, *shard.sentence_ends.tolist()]
    parts = [tokenizer.decode(shard.ids[a:b].tolist()) for a, b in pairwise(ends)]
    assert [part.split()[0] for part in parts] == ["bake", "kelo", "velba"]


def test_a_pair_has_exactly_its_two_fields_as_sentences(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    row = {"query": "one. two. three", "answer": "four\nfive. six"}
    (tiny_folder.root / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    prepare_datasets(tiny_study, tiny_folder, workers=1)
    shard = open_dataset(tiny_folder, "pairs").shards[0]
    assert shard.pair
    assert len(shard.sentence_ends) == 2


def test_damaged_shards_are_found(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    prepare_datasets(tiny_study, tiny_folder, workers=1)
    dataset = open_dataset(tiny_folder, "lines")
    dataset.verify()
    path = dataset.shard_paths[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match="not what was written"):
        open_dataset(tiny_folder, "lines").verify()
    path.write_bytes(bytes(data[:100]))
    with pytest.raises(ShardError, match="lossary prepare"):
        _ = open_dataset(tiny_folder, "lines").shards[0]


def test_a_vocabulary_too_large_says_what_the_text_allows(
    make_study: Callable[..., Study], tiny_folder: StudyFolder
) -> None:
    with pytest.raises(StudyError, match=r"tokenizer\.vocabulary_size: too large for this text, which allows \d+"):
        prepare_datasets(make_study(("= 120", "= 50000")), tiny_folder, workers=1)
    assert not tiny_folder.tokenizer.exists()


def test_an_existing_model_is_taken_if_its_special_ids_are_alberts(
    tiny_study: Study, make_study: Callable[..., Study], tiny_folder: StudyFolder
) -> None:
    prepare_datasets(tiny_study, tiny_folder, workers=1)
    (tiny_folder.root / "mine.model").write_bytes((tiny_folder.tokenizer / "spiece.model").read_bytes())
    digest = open_tokenizer(tiny_folder).digest
    other = make_study(("vocabulary_size = 120", 'model = "mine.model"'))
    prepare_datasets(other, tiny_folder, workers=1)
    assert open_tokenizer(tiny_folder).digest == digest
    assert read_json(tiny_folder.tokenizer / "manifest.json")["source"] == "mine.model"


def test_a_model_with_other_special_ids_is_refused(make_study: Callable[..., Study], tiny_folder: StudyFolder) -> None:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["alpha beta gamma delta loss token mask"] * 50),
        model_prefix=str(tiny_folder.root / "other"),
        vocab_size=18,
        minloglevel=2,
    )
    with pytest.raises(StudyError, match=r"special pieces .* are not ALBERT's: 0 is '<unk>', not '<pad>'"):
        prepare_datasets(make_study(("vocabulary_size = 120", 'model = "other.model"')), tiny_folder, workers=1)
    (tiny_folder.root / "no.model").write_bytes(b"nothing")
    with pytest.raises(StudyError, match="no SentencePiece model"):
        prepare_datasets(make_study(("vocabulary_size = 120", 'model = "no.model"')), tiny_folder, workers=1)
