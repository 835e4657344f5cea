"""Vocabularies of the usual families against transformers' own tokenizers: ids, templates, roles, bytes."""

import unicodedata
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.vocabularies import CORPUS, FAMILIES, save_family, save_sentencepiece

from lossary.vocabulary import Encoded, Vocabulary, open_vocabulary
from lossary.vocabulary.api import Specials, folds_case
from lossary.vocabulary.offsets import Ranges, Text, starts_word
from lossary.vocabulary.piece_texts import piece_text
from lossary.vocabulary.roles import ROLES

pytestmark = pytest.mark.frameworks
TEXTS = [
    *CORPUS[:8],
    "Hello WORLD, naïve café!",
    "  two  spaces\tand\nlines \n",
    "e\u0301 ﬁsh ℡ Å İstanbul ½",
    "x\u200by 👩\u200d👩\u200d👧 \U0001f600 क्षि",
    "",
    "   ",
    "MKTAYIAK QRQ zJ",
]
# Letters of many scripts, marks that combine, ligatures, spaces of all kinds, emoji; few of each, so that they meet.
_LETTERS = "abzAEéïÅßпёЖ你好日本語のمرك्षิ\u0301\u0308ﬁ℡½½.,!?'“”()-1234 \t\n\u00a0\u3000 👩\u200d😀\U0001f600"


@cache
def _opened(name: str) -> Vocabulary:
    return open_vocabulary(_folders()[name])


@cache
def _folders() -> dict[str, Path]:
    import tempfile

    root = Path(tempfile.mkdtemp(prefix="families-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {name: save_family(name, root / name) for name in FAMILIES}
    (root / "sentencepiece").mkdir()
    return found | {"sentencepiece": save_sentencepiece(root / "sentencepiece" / "spiece.model")}


@cache
def _theirs(name: str) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(_folders()[name])


@pytest.mark.parametrize("name", FAMILIES)
def test_ids_are_those_of_transformers(name: str) -> None:
    ours, theirs = _opened(name), _theirs(name)
    for text, encoded in zip(TEXTS, ours.encode(TEXTS), strict=True):
        assert encoded.ids.tolist() == theirs(text, add_special_tokens=False)["input_ids"], text


@pytest.mark.parametrize("name", FAMILIES)
def test_templates_are_those_of_transformers(name: str) -> None:
    ours, theirs = _opened(name), _theirs(name)
    first, second = (encoded.ids for encoded in ours.encode(["Hello MKT", "Ein QRQ"]))
    for segments, texts in (((first,), ("Hello MKT",)), ((first, second), ("Hello MKT", "Ein QRQ"))):
        framed, expected = ours.frame(*segments), theirs(*texts)
        assert framed.ids.tolist() == expected["input_ids"]
        if "token_type_ids" in expected:
            assert framed.type_ids.tolist() == expected["token_type_ids"]
        assert len(framed.ids) == sum(map(len, segments)) + ours.num_added[len(segments) - 1]
        assert framed.ids[framed.first : framed.first + len(first)].tolist() == first.tolist()
        rest = framed.ids[framed.second : framed.second + len(second)].tolist()
        assert rest == (second.tolist() if len(segments) == 2 else [])


@pytest.mark.parametrize("name", FAMILIES)
def test_roles_are_those_of_transformers(name: str) -> None:
    ours, theirs = _opened(name), _theirs(name)
    for role in ROLES:
        expected = getattr(theirs, f"{role}_token_id", None)
        if (name, role) == ("esm", "sep"):
            expected = theirs.eos_token_id  # its template has it between two sequences
        assert getattr(ours.specials, role) == expected, role
    assert ours.kind == ("causal" if name in ("gpt2", "llama", "llama-legacy") else "masked")
    assert ours.size == len(theirs)
    assert ours.pieces == theirs.convert_ids_to_tokens(range(ours.size))


@pytest.mark.parametrize("name", [*FAMILIES, "sentencepiece"])
def test_no_text_yields_a_special_piece(name: str) -> None:
    vocabulary = _opened(name)
    special = np.flatnonzero(vocabulary.is_special)
    texts = [f"a {vocabulary.pieces[number]} b{vocabulary.pieces[number]}" for number in special]
    for encoded in vocabulary.encode(texts):
        found = set(encoded.ids.tolist()) & set(special.tolist())
        assert found <= {vocabulary.specials.unk}
    assert {number for role in ROLES if (number := getattr(vocabulary.specials, role)) is not None} <= set(
        special.tolist()
    )


@pytest.mark.parametrize("name", [*FAMILIES, "sentencepiece"])
@given(text=st.text(alphabet=_LETTERS, max_size=30))
@example(text="e\u0301x ﬁsh  你好 👩\u200d👩 İ")
@settings(deadline=None, max_examples=60)
def test_ranges_are_of_the_text_as_it_was_written(name: str, text: str) -> None:
    vocabulary = _opened(name)
    (encoded,) = vocabulary.encode([text])
    begin, end, content = encoded.begin, encoded.end, text.encode()
    assert (np.diff(begin) >= 0).all()
    assert (np.diff(end) >= 0).all()
    assert (begin <= end).all()
    assert end.max(initial=0) <= len(content)
    covered = np.zeros(len(content), bool)
    for first, last in _together(begin, end):
        start, stop = int(begin[first]), int(end[last])
        covered[start:stop] = True
        written = content[start:stop].decode()  # whole characters
        ids = encoded.ids[first : last + 1]
        if (ids == vocabulary.specials.unk).any():
            assert written
            continue
        assert _plain(written) == _plain(_spelled(vocabulary, ids)), (written, ids)
    left = bytes(byte for byte, inside in zip(content, covered, strict=True) if not inside).decode(errors="replace")
    # What normalisers drop for good: white space, control and format characters; ESM's vocabulary has no case.
    assert all(letter.isspace() or unicodedata.category(letter)[0] in "CM" for letter in left), left


def _together(begin: np.ndarray, end: np.ndarray) -> list[tuple[int, int]]:
    """Runs of pieces whose ranges overlap: a character's bytes, what became of a ligature."""
    runs: list[tuple[int, int]] = []
    for number in range(len(begin)):
        if runs and begin[number] < end[runs[-1][1]]:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _spelled(vocabulary: Any, ids: np.ndarray) -> str:
    spelling = getattr(vocabulary, "spelling", "metaspace")
    from lossary.vocabulary.piece_texts import _bytes_of

    return b"".join(_bytes_of(vocabulary.pieces[number], spelling) for number in ids).decode(errors="replace")


def _plain(text: str) -> str:
    """Letters without case, marks, compatibility forms and white space."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    kept = (letter for letter in folded if unicodedata.category(letter)[0] not in "MCZ")
    return "".join(kept)


@pytest.mark.parametrize("name", FAMILIES)
def test_words_start_after_white_space_whatever_pieces_say(name: str) -> None:
    vocabulary, text = _opened(name), " one,two  three\u3000你好 (x) \n"
    (encoded,) = vocabulary.encode([text])
    starts = starts_word(Text(text), Ranges(encoded.begin, encoded.end), np.array([0]))
    words = _words(text, encoded, starts)
    assert [word.strip() for word in words if word.strip()] == ["one,two", "three", "你好", "(x)"]


@pytest.mark.parametrize("name", ["roberta", "modernbert", "llama", "bert"])
@given(texts=st.lists(st.text(alphabet=_LETTERS, max_size=20), max_size=4))
@settings(deadline=None, max_examples=40)
def test_texts_together_are_cut_as_each_alone(name: str, texts: list[str]) -> None:
    vocabulary = _opened(name)
    for text, found in zip(texts, vocabulary.encode(texts), strict=True):
        (alone,) = vocabulary.encode([text])
        assert all(np.array_equal(part, other) for part, other in zip(found, alone, strict=True))


@pytest.mark.parametrize("name", ["roberta", "gpt2", "llama"])
@given(text=st.text(alphabet=_LETTERS, max_size=30))
@settings(deadline=None, max_examples=60)
def test_words_are_those_between_white_space(name: str, text: str) -> None:
    (encoded,) = _opened(name).encode([text])
    starts = starts_word(Text(text), Ranges(encoded.begin, encoded.end), np.array([0]))
    words = [word.strip() for word in _words(text, encoded, starts)]
    assert [word for word in words if word] == text.split()


def _words(text: str, encoded: Encoded, starts: np.ndarray) -> list[str]:
    places = np.flatnonzero(starts)
    stops = [*places[1:], len(starts)][: len(places)]
    content = text.encode()
    return [
        content[encoded.begin[start] : max(encoded.end[start:stop])].decode()
        for start, stop in zip(places, stops, strict=True)
    ]


def test_pieces_for_people() -> None:
    assert piece_text("Ġthe", "bytes") == " the"
    assert piece_text("ä½", "bytes") == "�"
    assert piece_text("▁the", "metaspace") == " the"
    assert piece_text("<0x41>", "metaspace") == "A"
    assert piece_text("##ing", "wordpiece") == "ing"
    assert piece_text("the", "wordpiece") == " the"


def test_the_digest_is_of_what_a_vocabulary_does(tmp_path: Path) -> None:
    import json
    import shutil

    original = _folders()["bert"]
    digest = open_vocabulary(original).digest

    def changed(name: str, change: Any) -> str:
        folder = tmp_path / name
        shutil.copytree(original, folder)
        value = json.loads((folder / "tokenizer.json").read_text())
        change(value)
        (folder / "tokenizer.json").write_text(json.dumps(value, indent=1))
        return open_vocabulary(folder).digest

    padding = {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0}
    padding |= {"pad_type_id": 0, "pad_token": "[PAD]"}
    limit = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    assert changed("settings", lambda value: value.update(padding=padding, truncation=limit)) == digest
    assert changed("case", lambda value: value["normalizer"].update(lowercase=False)) != digest
    assert changed("template", lambda value: value.update(post_processor=None)) != digest
    assert len({open_vocabulary(_folders()[name]).digest for name in FAMILIES}) == len(FAMILIES)


def test_truncation_and_padding_of_the_file_do_nothing(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_folders()["bert"] / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocabulary = open_vocabulary(tmp_path / "tokenizer.json")
    (expected,) = _opened("bert").encode([CORPUS[0]])
    assert vocabulary.encode([CORPUS[0]])[0].ids.tolist() == expected.ids.tolist()
    assert vocabulary.specials == Specials(pad=0, unk=1, cls=2, sep=3, mask=4)


def test_encoding_touches_neither_environment_nor_the_librarys_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    before = dict(os.environ)
    threads = len(os.listdir("/proc/self/task")) if Path("/proc/self/task").is_dir() else 0
    _opened("roberta").encode(TEXTS * 100)
    assert dict(os.environ) == before
    if threads:
        assert len(os.listdir("/proc/self/task")) <= threads


def test_case_is_folded_where_capitals_have_the_pieces_of_small_letters() -> None:
    # ESM has no small letters: that it knows neither is not to fold them.
    names = [*FAMILIES, "sentencepiece"]
    assert {name for name in names if folds_case(_opened(name))} == {"bert", "electra", "albert", "sentencepiece"}
