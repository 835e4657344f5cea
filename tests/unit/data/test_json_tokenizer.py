"""A study that is made with a tokenizer.json: documents, examples, masks, floors, and what such a study cannot do."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import TINY, sentence, write_tiny_sources
from tests.vocabularies import byte_level, word_piece

from lossary.data.batches import TrainingData
from lossary.data.json_tokenizer import JsonTokenizer
from lossary.data.prepare import prepare_datasets
from lossary.data.shards import open_dataset
from lossary.data.tokenizer import open_tokenizer
from lossary.data.validation import load_validation, prepare_examples
from lossary.diagnosis.sides import run_setup
from lossary.errors import ShardError, StudyError, UsageError
from lossary.folder import StudyFolder
from lossary.models.checkpoints import check_checkpoint, load_own_checkpoint, save_checkpoint
from lossary.models.parameters import initial_parameters
from lossary.models.update_laws import Moments
from lossary.models.vocabularies import compare_vocabulary
from lossary.planning.estimates import shape_of_run
from lossary.study import Study
from lossary.study_file import parse_study
from lossary.tables.texts import stretches
from lossary.training.plan import plan_run
from lossary.vocabulary import open_vocabulary

KINDS = ("bert", "roberta", "modernbert")
ROBERTA = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}


def save_tokenizer(folder: Path, kind: str) -> Path:
    """A folder as people have them: its ids, template and token types are not ALBERT's."""
    rng = random.Random(1)
    texts = [sentence(rng) for _ in range(1500)]
    files: dict[str, Any] = {}
    if kind == "bert":
        ends = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
        files["tokenizer.json"] = word_piece(texts=texts) | {"post_processor": ends}
    elif kind == "roberta":
        ends = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}
        ends |= {"trim_offsets": True, "add_prefix_space": False}
        names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        files["tokenizer.json"] = byte_level(names, texts=texts) | {"post_processor": ends}
        files["tokenizer_config.json"] = {f"{role}_token": name for role, name in ROBERTA.items()}
        files["tokenizer_config.json"]["tokenizer_class"] = "RobertaTokenizer"
    else:
        value = byte_level([], texts=texts)
        size = len(value["model"]["vocab"])
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
        names = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
        value["added_tokens"] = [{"id": size + n, "content": name, **flags} for n, name in enumerate(names)]
        value["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", size + 2], "cls": ["[CLS]", size + 1]}
        files["tokenizer.json"] = value
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def make_study(root: Path, kind: str, *changes: tuple[str, str], model: str = "tok") -> tuple[Study, StudyFolder]:
    write_tiny_sources(root)
    save_tokenizer(root / "tok", kind)
    text = TINY.replace("vocabulary_size = 120\nsample_bytes = 200000", f'model = "{model}"')
    for old, new in changes:
        text = text.replace(old, new)
    (root / "study.toml").write_text(text)
    return parse_study(text), StudyFolder(root)


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, StudyFolder]:
    study, folder = make_study(tmp_path_factory.mktemp(request.param), request.param)
    prepare_datasets(study, folder, workers=1)
    prepare_examples(study, folder)
    return study, folder


def test_documents_are_cut_as_the_file_says(made: tuple[Study, StudyFolder]) -> None:
    _, folder = made
    vocabulary, shard = open_vocabulary(folder.root / "tok"), open_dataset(folder, "lines").shards[0]
    lines = (folder.root / "lines.txt").read_text().splitlines()
    expected = [encoded.ids.tolist() for encoded in vocabulary.encode(lines)]
    assert [shard.ids[a:b].tolist() for a, b in zip(shard.id_offsets, shard.id_offsets[1:], strict=False)] == expected
    assert open_tokenizer(folder).digest == vocabulary.digest
    assert not vocabulary.is_special[shard.ids].any()


def test_words_and_sentences_are_told_by_white_space(made: tuple[Study, StudyFolder]) -> None:
    _, folder = made
    shard = open_dataset(folder, "lines").shards[0]
    lines = (folder.root / "lines.txt").read_text().splitlines()
    words = [shard.word_starts[a:b].sum() for a, b in zip(shard.id_offsets, shard.id_offsets[1:], strict=False)]
    assert words == [len(line.split()) for line in lines]
    assert np.diff(shard.sentence_offsets).tolist() == [line.count(".") for line in lines]


def test_examples_have_the_template_and_hide_whole_words(made: tuple[Study, StudyFolder]) -> None:
    study, folder = made
    vocabulary, data = open_vocabulary(folder.root / "tok"), TrainingData(study, folder, "torch_a")
    special = np.flatnonzero(vocabulary.is_special)
    pairs = 0
    for step in range(6):
        batch = data.batch(step)
        for row in range(len(batch)):
            size, count = batch.lengths[row], batch.masked[row]
            ids, positions, labels = (
                batch.token_ids[row, :size],
                batch.positions[row, :count],
                batch.labels[row, :count],
            )
            assert size <= study.recipe.sequence_length
            assert not np.isin(labels, special).any()
            seen = ids[positions]
            assert not np.isin(seen[seen != vocabulary.specials.mask], special).any()
            whole = ids.copy()
            whole[positions] = labels
            segments = _segments(vocabulary, whole)
            pairs += len(segments) == 2
            framed = vocabulary.frame(*segments)
            assert whole.tolist() == framed.ids.tolist()
            assert batch.segment_ids[row, :size].tolist() == framed.type_ids.tolist()
            assert (len(segments) == 2) == (batch.sop_labels[row] >= 0)
    assert pairs > 10


def _segments(vocabulary: Any, ids: np.ndarray) -> list[np.ndarray]:
    ordinary = np.flatnonzero(~np.isin(ids, np.flatnonzero(vocabulary.is_special)))
    return [ids[part] for part in np.split(ordinary, np.flatnonzero(np.diff(ordinary) > 1) + 1)]


def test_hidden_words_are_whole_in_the_text(made: tuple[Study, StudyFolder]) -> None:
    """Runs of hidden pieces, read back as text, are words of the sources."""
    _, folder = made
    tokenizer, validation = open_tokenizer(folder), load_validation(folder)
    known = {word.strip(".") for name in ("lines.txt", "stories.jsonl", "pairs.jsonl") for word in _words(folder, name)}
    examples = validation.examples
    hidden = checked = 0
    for row in range(len(examples)):
        size, count = int(examples.lengths[row]), int(examples.masked[row])
        ids = examples.token_ids[row, :size].tolist()
        parts = stretches(
            ids, examples.positions[row, :count].tolist(), examples.labels[row, :count].tolist(), tokenizer
        )
        text = "".join(f"\x00{part.text}\x01" if part.slot is not None else part.text for part in parts)
        hidden += count
        for run in text.replace("\x01\x00", "").split("\x00")[1:]:
            words = run.split("\x01")[0].split()
            # A sentence cut in two may begin or end inside a word.
            checked += sum(word.strip(".") in known for word in words)
    assert hidden > 100
    assert checked > 0.6 * hidden / 3


def _words(folder: StudyFolder, name: str) -> list[str]:
    text = (folder.root / name).read_text()
    for mark in '{}":,':
        text = text.replace(mark, " ")
    return text.split()


def test_bytes_are_about_those_of_the_text(made: tuple[Study, StudyFolder]) -> None:
    _, folder = made
    manifest, tokenizer = open_dataset(folder, "lines").manifest, open_tokenizer(folder)
    shard = open_dataset(folder, "lines").shards[0]
    counted = int(tokenizer.piece_bytes[shard.ids].sum()) + int(shard.word_starts.sum())
    # A space in front of each line's first word, and what a piece of the file does not know.
    assert abs(counted - manifest["bytes"]) <= manifest["documents"]


def test_random_pieces_are_ordinary_and_masks_are_the_vocabularys(made: tuple[Study, StudyFolder]) -> None:
    study, folder = made
    vocabulary, data = open_vocabulary(folder.root / "tok"), TrainingData(study, folder, "torch_a")
    seen, labels = [], []
    for step in range(40):
        batch = data.batch(step)
        used = batch.weights > 0
        seen.append(batch.token_ids[np.nonzero(used)[0], batch.positions[used]])
        labels.append(batch.labels[used])
    shown, were = np.concatenate(seen), np.concatenate(labels)
    assert abs((shown == vocabulary.specials.mask).mean() - 0.8) < 0.05
    others = shown[(shown != vocabulary.specials.mask) & (shown != were)]
    assert len(others) > 20
    assert not vocabulary.is_special[others].any()


def test_preparing_again_keeps_everything_and_another_file_does_not(tmp_path: Path) -> None:
    study, folder = make_study(tmp_path, "roberta", model="tok/tokenizer.json")
    first = prepare_datasets(study, folder, workers=1)
    assert prepare_datasets(study, folder, workers=1) == first
    config = tmp_path / "tok" / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"mask_token": "<mask>"', '"mask_token": "<unk>"'))
    again = prepare_datasets(study, folder, workers=1)
    assert again["lines"]["tokenizer_digest"] != first["lines"]["tokenizer_digest"]


def _refused(change: Callable[[Path], None], root: Path, *changes: tuple[str, str]) -> str:
    study, folder = make_study(root, "roberta", *changes)
    change(root / "tok" / "tokenizer.json")
    with pytest.raises(StudyError) as error:
        prepare_datasets(study, folder, workers=1)
    assert "$.tokenizer.model" in str(error.value)
    return str(error.value)


def _rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_what_cannot_be_trained_is_said_before_anything_is_made(tmp_path: Path) -> None:
    def causal(path: Path) -> None:
        path.write_text(json.dumps(byte_level(["<|endoftext|>"])))
        path.with_name("tokenizer_config.json").unlink()

    assert "has no mask piece" in _refused(causal, tmp_path / "causal")
    assert "not readable as JSON" in _refused(lambda path: path.write_bytes(path.read_bytes()[:999]), tmp_path / "cut")

    def bare(path: Path) -> None:
        _rewrite(path, lambda value: value.update(post_processor=None))

    assert "puts no piece in front of a text" in _refused(bare, tmp_path / "bare")
    without_sop = ("sequence_length = 32", 'sequence_length = 32\nobjective = ["mlm"]')
    study, folder = make_study(tmp_path / "plain", "roberta", without_sop)
    bare(tmp_path / "plain" / "tok" / "tokenizer.json")
    assert prepare_datasets(study, folder, workers=1)["lines"]["documents"] == 300
    study, folder = make_study(tmp_path / "none", "bert", model="elsewhere")
    with pytest.raises(StudyError, match="no such file"):
        prepare_datasets(study, folder, workers=1)


def test_a_plan_counts_with_the_files_pieces_before_anything_is_made(tmp_path: Path) -> None:
    study, folder = make_study(tmp_path, "bert")
    assert shape_of_run(study, folder, "torch_a").vocabulary_size == open_vocabulary(tmp_path / "tok").size
    (tmp_path / "tok" / "tokenizer.json").write_text("{")
    other = parse_study(TINY.replace("vocabulary_size = 120", 'model = "tok"\nvocabulary_size = 120'))
    assert shape_of_run(other, StudyFolder(tmp_path / "tok"), "torch_a").vocabulary_size == 120


def test_a_changed_file_of_the_tokenizer_is_found(tmp_path: Path) -> None:
    study, folder = make_study(tmp_path, "bert")
    prepare_datasets(study, folder, workers=1)
    config = folder.tokenizer / "tokenizer_config.json"
    config.write_text(config.read_text().replace("[MASK]", "[UNK]"))
    with pytest.raises(ShardError, match="not what was written") as error:
        open_tokenizer(folder)
    assert error.value.where == str(config)


def test_a_checkpoint_carries_the_tokenizer_and_its_ids(made: tuple[Study, StudyFolder], tmp_path: Path) -> None:
    study, folder = made
    tokenizer, shape = open_tokenizer(folder), plan_run(study, folder, "torch_a").shape
    assert isinstance(tokenizer, JsonTokenizer)
    assert shape.pad_id == tokenizer.specials.pad
    weights = initial_parameters(shape, 0)
    path = tmp_path / "step-00000001"
    save_checkpoint(
        path, shape=shape, parameters=weights, moments=Moments(weights, weights), state={}, tokenizer=tokenizer
    )
    config = json.loads((path / "config.json").read_text())
    specials = tokenizer.specials
    assert [config[f"{role}_token_id"] for role in ("pad", "bos", "eos")] == [specials.pad, specials.cls, specials.sep]
    assert check_checkpoint(path)
    assert load_own_checkpoint(path).shape == shape
    assert compare_vocabulary(path, tokenizer.path) == "same"
    assert open_vocabulary(path).digest == tokenizer.digest


@pytest.mark.frameworks
def test_transformers_opens_a_checkpoint_with_its_tokenizer(made: tuple[Study, StudyFolder], tmp_path: Path) -> None:
    import transformers

    study, folder = made
    tokenizer, shape = open_tokenizer(folder), plan_run(study, folder, "torch_a").shape
    weights = initial_parameters(shape, 0)
    path = tmp_path / "step-00000001"
    save_checkpoint(
        path, shape=shape, parameters=weights, moments=Moments(weights, weights), state={}, tokenizer=tokenizer
    )
    theirs, vocabulary = transformers.AutoTokenizer.from_pretrained(path), open_vocabulary(path)
    first, second = (encoded.ids for encoded in vocabulary.encode(["bake keba lomi.", "nupra stovel"]))
    expected = vocabulary.frame(first, second)
    found = theirs("bake keba lomi.", "nupra stovel")
    assert found["input_ids"] == expected.ids.tolist()
    assert theirs.mask_token_id == tokenizer.specials.mask
    model = transformers.AlbertForPreTraining.from_pretrained(path)
    assert model.get_input_embeddings().padding_idx == tokenizer.specials.pad


def test_another_vocabulary_of_a_checkpoint_is_refused(made: tuple[Study, StudyFolder], tmp_path: Path) -> None:
    from lossary.errors import CheckpointError

    _, folder = made
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\nthe\n")
    with pytest.raises(CheckpointError, match="of its pieces are others"):
        compare_vocabulary(tmp_path, open_tokenizer(folder).path)
    (tmp_path / "vocab.txt").unlink()
    assert compare_vocabulary(tmp_path, open_tokenizer(folder).path) == "unknown"


def test_a_diagnosis_says_that_it_needs_another_study(made: tuple[Study, StudyFolder]) -> None:
    study, folder = made
    with pytest.raises(UsageError, match=r"this study has a tokenizer\.json"):
        run_setup(study, folder, "torch_a", threads=1)
