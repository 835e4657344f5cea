"""What `open_vocabulary` opens, and what it says of files that it cannot use."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from tests.vocabularies import AMINO_ACIDS, BERT, byte_level, save_sentencepiece, word_piece

from lossary.errors import MissingPackage, VocabularyError
from lossary.vocabulary import Vocabulary, open_vocabulary, require_mask
from lossary.vocabulary.api import Specials


def _word_piece(**change: Any) -> dict[str, Any]:
    ends = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    return word_piece() | {"post_processor": ends} | change


def _write(folder: Path, **files: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        file = folder / name.replace("__", ".")
        if isinstance(value, bytes):
            file.write_bytes(value)
        else:
            file.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return folder


def test_a_file_alone_says_its_roles_by_usual_names(tmp_path: Path) -> None:
    found = open_vocabulary(_write(tmp_path, tokenizer__json=_word_piece()) / "tokenizer.json")
    assert found.specials == Specials(pad=0, unk=1, cls=2, sep=3, mask=4)
    assert found.kind == "masked"
    assert found.title == f"WordPiece {found.size}"
    assert found.num_added == (2, 3)
    assert found.frame(np.array([7, 8]), np.array([9])).type_ids.tolist() == [0, 0, 0, 0, 1, 1]


def test_roles_come_from_the_files_beside_it(tmp_path: Path) -> None:
    config = {"mask_token": {"content": "[UNK]", "special": True}, "pad_token": "[SEP]", "eos_token": "[absent]"}
    names = {"pad_token": "[PAD]", "bos_token": "[CLS]"}
    _write(tmp_path, tokenizer__json=_word_piece(), tokenizer_config__json=config, special_tokens_map__json=names)
    assert open_vocabulary(tmp_path).specials == Specials(pad=3, unk=1, cls=2, sep=3, mask=1, bos=2, eos=None)


def test_added_tokens_beside_it_have_their_ids(tmp_path: Path) -> None:
    config = {"mask_token": "<mask>"}
    value = byte_level(["<s>", "</s>"])
    size = len(value["model"]["vocab"])
    _write(tmp_path, tokenizer__json=value, tokenizer_config__json=config, added_tokens__json={"<mask>": size + 1})
    found = open_vocabulary(tmp_path)
    assert (found.specials.mask, found.size) == (size + 1, size + 2)
    assert found.pieces[size] == ""
    assert found.is_special[size]  # nobody draws an id without a piece


def test_without_a_template_the_configuration_says_what_is_added(tmp_path: Path) -> None:
    value = byte_level(["<s>", "</s>"])
    for name, config, expected in (
        ("bare", {}, (0, 0)),
        ("bos", {"add_bos_token": True}, (1, 2)),
        ("both", {"add_bos_token": True, "add_eos_token": True}, (2, 4)),
        ("none", {"add_bos_token": False}, (0, 0)),
    ):
        folder = _write(tmp_path / name, tokenizer__json=value, tokenizer_config__json=config)
        assert open_vocabulary(folder).num_added == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer__json": '{"model": {"type": "WordPie'}, "not readable as JSON"),
        ({"tokenizer__json": b"\xff\xfe\x00"}, "not readable as JSON"),
        ({"tokenizer__json": "[1, 2]"}, "a JSON object was expected"),
        ({"tokenizer__json": {"vocab": {}}}, "it has no `model`"),
        ({"tokenizer__json": {"model": {"type": "Novel", "vocab": {}}}}, "no tokenizer.json that it can read"),
        ({"vocab__txt": "[PAD]\n[UNK]\nthe\n"}, "a tokenizer.json is needed"),
        ({"vocab__json": "{}", "merges__txt": ""}, "only the files of a slow tokenizer (vocab.json, merges.txt)"),
        ({"tokenizer__model": "aGVsbG8= 0\nd29ybGQ= 1\n"}, "a tiktoken file"),
        ({"qwen__tiktoken": "aGVsbG8= 0\n"}, "a tiktoken file"),
        ({"tekken__json": "{}"}, "a tiktoken file"),
        ({"spiece__model": b"no model at all"}, "no SentencePiece model"),
        ({"weights__safetensors": b""}, "no tokenizer in this folder, which holds weights.safetensors"),
        ({}, "no tokenizer in this folder, which holds nothing"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    with pytest.raises(VocabularyError) as error:
        open_vocabulary(_write(tmp_path / "model", **files))
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)


def _hole(value: dict[str, Any]) -> None:
    value["added_tokens"].append(value["added_tokens"][0] | {"id": 5000, "content": "[FAR]"})


def _twice(value: dict[str, Any]) -> None:
    vocabulary = value["model"]["vocab"]
    vocabulary[next(name for name, number in vocabulary.items() if number == 20)] = 21


def _no_sep(value: dict[str, Any]) -> None:
    value["post_processor"]["sep"] = ["[SEP]", 90_000]


def _unordered(value: dict[str, Any]) -> None:
    text = {"Sequence": {"id": "A", "type_id": 0}}
    value["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [text],
        "pair": [{"Sequence": {"id": "B", "type_id": 1}}, text],
        "special_tokens": {},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_hole, "the added token '[FAR]' has id 5000, and ids before it have no piece"),
        (_twice, "id 21 is"),
        (_no_sep, "its template adds id 90000, which no piece has"),
        (_unordered, "does not put each text once, in order"),
    ],
)
def test_damage_inside_a_whole_file_is_said(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    value = _word_piece()
    change(value)
    with pytest.raises(VocabularyError, match=message.replace("[", r"\[")):
        open_vocabulary(_write(tmp_path, tokenizer__json=value))


def test_a_missing_path_and_a_missing_package_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VocabularyError, match="no such file or folder"):
        open_vocabulary(tmp_path / "tokenizer.json")
    folder = _write(tmp_path, tokenizer__json=_word_piece())
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingPackage) as error:
        open_vocabulary(folder)
    assert error.value.hint == 'Install: pip install "lossary[tokenizers]"'


def test_a_causal_vocabulary_hides_nothing(tmp_path: Path) -> None:
    found = open_vocabulary(_write(tmp_path, tokenizer__json=byte_level(["<|endoftext|>"])))
    assert found.kind == "causal"
    assert found.specials.pad is None
    with pytest.raises(VocabularyError, match="has no mask piece"):
        require_mask(found, "$.tokenizer.model")
    masked = open_vocabulary(_write(tmp_path / "masked", tokenizer__json=_word_piece()))
    assert require_mask(masked, "") == 4


def test_a_model_that_lists_special_pieces_does_not_give_them_to_text(tmp_path: Path) -> None:
    """Unigram models hold `<s>` as a piece, which the library's own switch for special tokens leaves in."""
    rows = [["<s>", 0.0], ["<unk>", 0.0], ["<mask>", 0.0], *([letter, -3.0] for letter in "▁<s>mak")]
    value = {"version": "1.0", "added_tokens": [], "model": {"type": "Unigram", "unk_id": 1, "vocab": rows}}
    names = {"bos_token": "<s>", "mask_token": "<mask>"}
    found = open_vocabulary(_write(tmp_path, tokenizer__json=value, special_tokens_map__json=names))
    (encoded,) = found.encode(["<s><mask>"])
    assert "".join(found.pieces[number] for number in encoded.ids) == "<s><mask>"
    assert encoded.ids.min() > 2


def test_a_vocab_txt_of_bert_is_opened_where_its_case_is_known(tmp_path: Path) -> None:
    whole = word_piece()
    pieces = "\n".join(whole["model"]["vocab"])
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    old = open_vocabulary(_write(tmp_path / "old", vocab__txt=pieces, tokenizer_config__json=config))
    ends = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    new = open_vocabulary(_write(tmp_path / "new", tokenizer__json=whole | {"post_processor": ends}))
    text = "Hello NAÏVE wörld, 你好 (x)"
    assert old.encode([text])[0].ids.tolist() == new.encode([text])[0].ids.tolist()
    assert (old.specials, old.pieces, old.num_added) == (new.specials, new.pieces, new.num_added)
    assert old.digest == new.digest
    # A vocabulary without capitals folds case; of one with a capital somebody has to say it.
    del config["do_lower_case"]
    assert open_vocabulary(_write(tmp_path / "old", tokenizer_config__json=config)).digest == new.digest
    with pytest.raises(VocabularyError, match="nothing beside it says whether it folds case"):
        open_vocabulary(_write(tmp_path / "old", vocab__txt=pieces + "\n##Q"))
    with pytest.raises(VocabularyError, match="for a BertJapaneseTokenizer"):
        open_vocabulary(_write(tmp_path / "old", tokenizer_config__json={"tokenizer_class": "BertJapaneseTokenizer"}))


def test_a_vocab_txt_with_a_piece_twice_or_without_a_mask_is_refused(tmp_path: Path) -> None:
    config = {"tokenizer_class": "EsmTokenizer"}
    twice = "\n".join([*AMINO_ACIDS, "L"])
    with pytest.raises(VocabularyError, match="the piece 'L' stands twice"):
        open_vocabulary(_write(tmp_path, vocab__txt=twice, tokenizer_config__json=config))
    with pytest.raises(VocabularyError, match="lacks the special piece '<mask>'"):
        open_vocabulary(_write(tmp_path, vocab__txt="\n".join(AMINO_ACIDS[:-1])))


@pytest.fixture(scope="module")
def albert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sentencepiece(tmp_path_factory.mktemp("albert") / "spiece.model")


def test_a_sentencepiece_model_has_alberts_template_and_its_own_ids(albert: Path) -> None:
    found: Vocabulary = open_vocabulary(albert)
    assert found.specials == Specials(pad=0, unk=1, cls=2, sep=3, mask=4)
    assert found.frame(np.array([7]), np.array([9])).ids.tolist() == [2, 7, 3, 9, 3]
    assert found.frame(np.array([7]), np.array([9])).type_ids.tolist() == [0, 0, 0, 1, 1]
    processor = sentencepiece.SentencePieceProcessor(model_file=str(albert))
    text = "Hello ﬁne Wörld 你好"
    assert found.encode([text])[0].ids.tolist() == processor.encode(text, out_type=int)
    assert open_vocabulary(albert.parent).digest == found.digest


def test_a_folder_with_both_is_taken_as_the_model_that_studies_are_made_with(albert: Path, tmp_path: Path) -> None:
    _write(tmp_path, tokenizer__json=_word_piece(), spiece__model=albert.read_bytes())
    assert open_vocabulary(tmp_path).digest == open_vocabulary(albert).digest
    assert open_vocabulary(tmp_path / "tokenizer.json").title.startswith("WordPiece")


def test_special_pieces_that_a_user_defined_are_not_given_to_text(tmp_path: Path) -> None:
    path = save_sentencepiece(
        tmp_path / "spiece.model", control_symbols=["[CLS]", "[SEP]"], user_defined_symbols=["[MASK]"]
    )
    assert sentencepiece.SentencePieceProcessor(model_file=str(path)).encode("a [MASK]", out_type=int).count(4) == 1
    _write(tmp_path, special_tokens_map__json={f"{name[1:-1].lower()}_token": name for name in BERT[2:]})
    found = open_vocabulary(path)
    assert found.specials.mask == 4
    assert 4 not in found.encode(["a [MASK]"])[0].ids


def test_sentencepiece_models_of_causal_and_of_renumbered_tokenizers(tmp_path: Path) -> None:
    settings = {"pad_id": -1, "unk_id": 0, "bos_id": 1, "eos_id": 2, "control_symbols": [], "model_type": "bpe"}
    path = save_sentencepiece(tmp_path / "tokenizer.model", byte_fallback=True, vocab_size=400, **settings)
    found = open_vocabulary(path)
    assert (found.specials, found.kind, found.num_added) == (Specials(unk=0, bos=1, eos=2), "causal", (0, 0))
    _write(tmp_path, tokenizer_config__json={"tokenizer_class": "LlamaTokenizer", "add_bos_token": True})
    assert open_vocabulary(tmp_path).frame(np.array([7]), np.array([9])).ids.tolist() == [1, 7, 1, 9]
    _write(tmp_path, tokenizer_config__json={"tokenizer_class": "XLMRobertaTokenizer"})
    with pytest.raises(VocabularyError, match="XLMRobertaTokenizer number the pieces of this model anew"):
        open_vocabulary(tmp_path)
