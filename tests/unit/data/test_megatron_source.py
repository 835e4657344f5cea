"""Megatron's tokenised datasets: back to the text that there was, and what is refused of them."""

import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import tokenizers
from tests.corpus import ROWS, jsonl, prepared, study_text

from lossary.data.prepare import prepare_datasets
from lossary.errors import LossaryError
from lossary.folder import StudyFolder
from lossary.study_file import parse_study

TEXTS = [row["text"] for row in ROWS]
KINDS = {8: "<u2", 4: "<i4", 5: "<i8"}


@cache
def sentencepiece_model(**options: Any) -> bytes:
    sink = io.BytesIO()
    settings = {
        "vocab_size": 420,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
        "character_coverage": 0.98,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 2),
        model_writer=sink,
        minloglevel=3,
        hard_vocab_limit=False,
        **settings | options,
    )
    return sink.getvalue()


@cache
def byte_level(normalizer: Any = None, *, prefix: bool = False) -> bytes:
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    model.decoder = tokenizers.decoders.ByteLevel()
    if normalizer is not None:
        model.normalizer = normalizer
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    model.train_from_iterator(TEXTS, trainer)
    return model.to_str().encode()


def word_piece() -> bytes:
    model = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0, "the": 1, "end": 2}, unk_token="[UNK]"))
    model.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    model.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    model.decoder = tokenizers.decoders.WordPiece()
    return model.to_str().encode()


def encoded(tokenizer: bytes, texts: Sequence[str] = TEXTS) -> list[list[int]]:
    if tokenizer.startswith(b"{"):
        model = tokenizers.Tokenizer.from_buffer(tokenizer)
        return [model.encode(text).ids for text in texts]
    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer).encode(list(texts))


def write(
    root: Path, tokenizer: bytes, documents: Sequence[Sequence[int]] | None = None, *, code: int = 4, name: str = "a"
) -> None:
    found = encoded(tokenizer) if documents is None else documents
    kind = np.dtype(KINDS.get(code, "<u2"))
    sizes = np.array([len(ids) for ids in found], np.int32)
    places = np.concatenate([[0], np.cumsum(sizes)[:-1]]) * kind.itemsize
    head = b"MMIDIDX\0\0" + np.uint64(1).tobytes() + bytes([code])
    counts = np.array([len(found), len(found) + 1], np.uint64).tobytes()
    index = head + counts + sizes.tobytes() + places.astype(np.int64).tobytes()
    (root / f"{name}.idx").write_bytes(index + np.arange(len(found) + 1, dtype=np.int64).tobytes())
    (root / f"{name}.bin").write_bytes(b"".join(np.array(ids, kind).tobytes() for ids in found))
    (root / "tokens").write_bytes(tokenizer)


NAMED = 'tokenizer = "tokens"'


@pytest.mark.parametrize("make", [sentencepiece_model, byte_level], ids=["sentencepiece", "json"])
@pytest.mark.parametrize("source", ["a.bin", "a.idx", "a", "*.bin"])
@pytest.mark.parametrize("code", [4, 5, 8])
@pytest.mark.parametrize("more", ["", "where = \"length(text) > 60 or contains(text, 'の')\"\nlimit = 20"])
def test_tokens_give_the_same_shards_as_their_text(
    tmp_path: Path, make: Callable[[], bytes], source: str, code: int, more: str
) -> None:
    write(tmp_path, make(), code=code)
    (tmp_path / "a.jsonl").write_bytes(jsonl())
    manifest = prepared(tmp_path, study_text(source, f"{NAMED}\n{more}"), name="b")
    assert manifest == prepared(tmp_path, study_text("a.jsonl", more), name="a")
    assert manifest["bad_rows"] == 0


def test_special_tokens_at_the_ends_are_no_text_and_inside_cost_the_document(tmp_path: Path) -> None:
    tokenizer = sentencepiece_model()
    ids = encoded(tokenizer, TEXTS[:5])
    # <s> is 1, </s> is 2, <unk> is 0.
    write(tmp_path, tokenizer, [[*ids[0], 2], [1, *ids[1], 2], [*ids[2], 2, *ids[3]], [0, *ids[4]], [2], []])
    manifest = prepared(tmp_path, study_text("a.bin", NAMED))
    assert manifest["documents"] == 2
    assert manifest["bytes"] == sum(len(text.encode()) for text in TEXTS[:2])
    assert manifest["bad_reasons"] == {
        "a special token stands inside of it": 1,
        "it holds unknown tokens, whose text is lost": 1,
        "empty": 2,
    }


def test_another_tokenizer_is_another_dataset_and_its_path_is_not(tmp_path: Path) -> None:
    write(tmp_path, byte_level())
    text = study_text("a.bin", NAMED)
    before = prepare_datasets(parse_study(text), StudyFolder(tmp_path), workers=1)["d"]
    (tmp_path / "moved").write_bytes(byte_level())
    moved = prepare_datasets(parse_study(text.replace('"tokens"', '"moved"')), StudyFolder(tmp_path), workers=1)["d"]
    assert (moved["request"], moved["digest"]) == (before["request"], before["digest"])
    (tmp_path / "tokens").write_bytes(byte_level() + b"\n")
    changed = prepare_datasets(parse_study(text), StudyFolder(tmp_path), workers=1)["d"]
    assert changed["request"] != before["request"]


def test_many_documents_are_cut_into_blocks_and_all_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lossary.data import megatron_source

    write(tmp_path, byte_level())
    whole = prepared(tmp_path, study_text("a.bin", NAMED), name="a")
    monkeypatch.setattr(megatron_source, "_PIECE_TOKENS", 100)
    monkeypatch.setattr(megatron_source, "_READ_DOCUMENTS", 4)
    cut = prepared(tmp_path, study_text("a.bin", NAMED), name="b")
    assert len(cut["shards"][0]["blocks"]) > len(whole["shards"][0]["blocks"])
    assert [cut[key] for key in ("documents", "tokens", "bytes")] == [
        whole[key] for key in ("documents", "tokens", "bytes")
    ]


def index(change: Callable[[bytearray], object]) -> Callable[[Path], None]:
    def write_changed(root: Path) -> None:
        write(root, byte_level())
        data = bytearray((root / "a.idx").read_bytes())
        change(data)
        (root / "a.idx").write_bytes(data)

    return write_changed


def put(place: int, *values: int, size: int = 8) -> Callable[[Path], None]:
    data = b"".join(value.to_bytes(size, "little", signed=True) for value in values)

    def change(found: bytearray) -> None:
        found[place : place + len(data)] = data

    return index(change)


def tokens(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write_changed(root: Path) -> None:
        write(root, byte_level())
        (root / "a.bin").write_bytes(change((root / "a.bin").read_bytes()))

    return write_changed


def by(tokenizer: Callable[[], bytes]) -> Callable[[Path], None]:
    """Good tokens, whose tokenizer is said to be another."""

    def write_changed(root: Path) -> None:
        write(root, byte_level())
        (root / "tokens").write_bytes(tokenizer())

    return write_changed


def without(name: str) -> Callable[[Path], None]:
    def write_changed(root: Path) -> None:
        write(root, byte_level())
        (root / name).unlink()

    return write_changed


def split(root: Path) -> None:
    write(root, byte_level())
    data = bytearray((root / "a.idx").read_bytes())
    data[26:34] = (3).to_bytes(8, "little")
    (root / "a.idx").write_bytes(data[: 34 + 12 * len(TEXTS) + 24])


def good(root: Path) -> None:
    write(root, byte_level())


N = len(TEXTS)
REFUSED: list[tuple[Callable[[Path], None], str, str]] = [
    (put(0, 0), NAMED, "Megatron's b'MMIDIDX"),
    (index(lambda data: data.__setitem__(slice(0, 8), b"TNTIDX\0\0")), NAMED, "fairseq's older form"),
    (put(9, 2), NAMED, "it is of version 2; 1 is expected"),
    (put(17, 77, size=1), NAMED, "of the unknown type 77"),
    (put(17, 7, size=1), NAMED, "of the type float32, no tokens"),
    (put(17, 8, size=1), NAMED, "sizes and places do not follow|its index tells of"),
    (put(18, N - 1), NAMED, "documents are of 41 sequences"),
    (put(18, 10**15, 10**15 + 1), NAMED, "the index has"),
    (split, NAMED, "2 documents are of 42 sequences; one each is expected"),
    (index(lambda data: data.__delitem__(slice(-9, None))), NAMED, "the index has .* bytes"),
    (index(lambda data: data.__delitem__(slice(20, None))), NAMED, "the index is cut short"),
    (index(lambda data: data.__delitem__(slice(5, None))), NAMED, "Megatron's b'MMIDIDX"),
    (index(lambda data: data.extend(b"more")), NAMED, "the index has .* bytes"),
    (put(34, -5, size=4), NAMED, "sizes and places do not follow one another"),
    (put(34 + 4 * N + 8, 12345), NAMED, "sizes and places do not follow one another"),
    (put(34 + 4 * N + 8 * (N - 1), 1 << 40), NAMED, "its index tells of"),
    (put(34 + 12 * N + 8, 2), NAMED, "the documents from 0 on are not one sequence each"),
    (tokens(lambda data: data[:-4]), NAMED, "its index tells of"),
    (tokens(lambda data: data + b"abcd"), NAMED, "its index tells of"),
    (
        tokens(lambda data: b"\xff\xff\xff\x7f" + data[4:]),
        NAMED,
        "the token 2,147,483,647; the tokenizer has 400 pieces",
    ),
    (tokens(lambda data: b"\xff\xff\xff\xff" + data[4:]), NAMED, "the token -1; the tokenizer has 400 pieces"),
    (without("a.bin"), NAMED, "a.bin is missing, which .*a.idx belongs to"),
    (without("a.idx"), NAMED, "a.idx is missing, which .*a.bin belongs to"),
    (without("tokens"), NAMED, "no such file"),
    (good, "", "holds tokens, and no tokenizer is named"),
    (good, f'{NAMED}\ntext = "body"', "no field is called 'body'"),
    (good, f'{NAMED}\ntext = ["text", "b"]', "a document of tokens has one field"),
    (good, f"{NAMED}\nwhere = \"lang = 'de'\"", "no field is called 'lang'"),
    (by(lambda: b"no tokenizer"), NAMED, "is no tokenizer"),
    (by(lambda: b"{}"), NAMED, "is no tokenizer.json"),
    (by(lambda: b'{"version": "1.0", "model": {}}'), NAMED, "is no tokenizer.json"),
    (by(word_piece), NAMED, "does not keep text as it is: 'The End' comes back as 'the end'"),
    (by(lambda: byte_level(tokenizers.normalizers.NFC())), NAMED, "does not keep text as it is"),
    (by(lambda: byte_level(tokenizers.normalizers.NFKC())), NAMED, "does not keep text as it is"),
    (by(lambda: byte_level(tokenizers.normalizers.Lowercase())), NAMED, "'The End' comes back as 'the end'"),
    (by(lambda: byte_level(prefix=True)), NAMED, "does not keep text as it is"),
    (by(lambda: sentencepiece_model(normalization_rule_name="nmt_nfkc")), NAMED, "does not keep text as it is"),
    (by(lambda: sentencepiece_model(remove_extra_whitespaces=True)), NAMED, "does not keep text as it is"),
    (by(sentencepiece_model), NAMED, "its tokens are not those that the tokenizer makes of its text"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, number: int) -> None:
    spoil, more, says = REFUSED[number]
    spoil(tmp_path)
    with pytest.raises(LossaryError, match=says) as raised:
        prepared(tmp_path, study_text("a.idx" if says.startswith("a.bin") else "a.bin", more))
    assert raised.value.where
    assert not (tmp_path / "study" / "prepared" / "d").exists()


def test_a_tokenizer_beside_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl())
    with pytest.raises(LossaryError, match="a tokenizer is named, and no source holds tokens"):
        prepared(tmp_path, study_text("a.jsonl", NAMED))
