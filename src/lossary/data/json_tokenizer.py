"""A study's tokenizer where that is a tokenizer.json of the `tokenizers` library.

Its folder holds the file and what was beside it, so that a checkpoint that has them is opened by transformers. Words
start after white space, which pieces do not always say of themselves: documents are kept with the places where they do.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.errors import LossaryError, ShardError, StudyError
from lossary.files import digest_file, digest_json, write_directory_atomic, write_json, write_plain_json
from lossary.folder import StudyFolder
from lossary.vocabulary.api import Specials
from lossary.vocabulary.offsets import ends_sentence, starts_word
from lossary.vocabulary.open import TOKENIZER_JSON, open_vocabulary
from lossary.vocabulary.roles import ROLES, read_object
from lossary.vocabulary.templates import Template
from lossary.vocabulary.tokenizer_json import JsonVocabulary

__all__ = ["JSON_FILES", "CutLines", "JsonTokenizer", "install_json", "json_file", "json_request", "open_json"]

_CONFIG = "tokenizer_config.json"
_BESIDE = (_CONFIG, "special_tokens_map.json", "added_tokens.json")
JSON_FILES = (TOKENIZER_JSON, *_BESIDE)


@dataclass(frozen=True, kw_only=True)
class CutLines:
    """The pieces (N,) of some lines, and what is known of their places."""

    ids: NDArray[Any]
    line_ends: NDArray[np.int64]
    sentence_ends: NDArray[np.int64]
    starts: NDArray[np.bool_] | None  # (N,) pieces that start words; None where each piece says it of itself


@dataclass(frozen=True)
class JsonTokenizer:
    """See `lossary.data.tokenizer.StudyTokenizer`. `folder` holds a tokenizer.json and what belongs to it."""

    folder: Path
    digest: str

    is_word_start = None
    counts_spaces = False

    @property
    def path(self) -> Path:
        return self.folder / TOKENIZER_JSON

    @property
    def files(self) -> list[Path]:
        """What a checkpoint needs of it."""
        return [path for name in JSON_FILES if (path := self.folder / name).is_file()]

    @property
    def _vocabulary(self) -> JsonVocabulary:
        return _opened(self.folder, self.digest)

    @property
    def vocabulary_size(self) -> int:
        return self._vocabulary.size

    @property
    def specials(self) -> Specials:
        return self._vocabulary.specials

    @property
    def template(self) -> Template:
        return self._vocabulary.template

    @property
    def pieces(self) -> list[str]:
        return self._vocabulary.pieces

    @property
    def texts(self) -> list[str]:
        """(V,) the text of every piece, a space in front where it spells one."""
        return self._vocabulary.texts

    @property
    def piece_bytes(self) -> NDArray[np.int32]:
        """(V,) UTF-8 bytes of each piece without white space; specials 0."""
        return self._vocabulary.piece_bytes

    @cached_property
    def ordinary(self) -> NDArray[np.int32]:
        """Pieces that texts are made of: not special."""
        return np.flatnonzero(~self._vocabulary.is_special).astype(np.int32)

    def encode(self, lines: list[str]) -> list[NDArray[np.int32]]:
        """The pieces of each line."""
        return [encoded.ids for encoded in self._vocabulary.encode(lines)]

    def cut(self, lines: list[str]) -> CutLines:
        """The pieces of lines, with words and sentences."""
        found = self._vocabulary.encode_together(lines)
        starts = starts_word(found.text, found.ranges, found.firsts)
        line_ends = np.cumsum(found.sizes)
        ends = np.zeros(len(starts) + 1, np.bool_)
        ends[1:-1] = ends_sentence(found.text, found.ranges)[:-1] & starts[1:]
        ends[line_ends] = True
        ends[0] = False  # an empty first line
        kind = np.uint16 if self.vocabulary_size <= 1 << 16 else np.int32
        return CutLines(
            ids=found.ids.astype(kind), line_ends=line_ends, sentence_ends=np.flatnonzero(ends), starts=starts
        )

    def places(self, lines: Sequence[bytes]) -> list[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        """The pieces (n,) of each line, given as UTF-8, and the bytes of it (n, 2) that each is from.

        Of several pieces that one character became, the last has its bytes, the others none.
        """
        found = []
        for encoded in self._vocabulary.encode([line.decode() for line in lines]):
            end = encoded.end.copy()
            end[:-1] = np.minimum(end[:-1], encoded.begin[1:])
            found.append((encoded.ids, np.stack([encoded.begin, end], axis=1).astype(np.int64)))
        return found

    def is_blank(self, character: str) -> bool:
        """Whether a character is white space, or is nothing else to this tokenizer."""
        return self._vocabulary.is_blank(character)

    def decode(self, ids: list[int]) -> str:
        """Text of pieces; special ones are written as they are called."""
        return "".join(self.texts[number] for number in ids).strip()


@lru_cache(maxsize=4)
def _opened(folder: Path, digest: str) -> JsonVocabulary:
    del digest  # Other files in their place are another vocabulary.
    found = open_vocabulary(folder / TOKENIZER_JSON)
    assert isinstance(found, JsonVocabulary)
    return found


def json_file(path: Path) -> Path | None:
    """The tokenizer.json that a study names, by itself or by its folder; None if it names something else."""
    if path.is_dir():
        named = path / TOKENIZER_JSON
        return named if named.is_file() and not (path / "spiece.model").is_file() else None
    return path if path.suffix == ".json" else None


def json_request(file: Path) -> str | None:
    """The digest of a tokenizer.json and of what is beside it; None if it is gone."""
    if not file.is_file():
        return None
    beside = [path for name in _BESIDE if (path := file.parent / name).is_file()]
    return digest_json({TOKENIZER_JSON: digest_file(file), **{path.name: digest_file(path) for path in beside}})


def install_json(folder: StudyFolder, file: Path, *, sop: bool, record: Mapping[str, Any]) -> None:
    """Takes an existing tokenizer.json; StudyError if examples with hidden words cannot be made with it."""
    where = f"{folder.study_file}: $.tokenizer.model"
    try:
        vocabulary = open_vocabulary(file)
    except LossaryError as error:
        raise StudyError(f"{error.where}: {error.message}", where=where, hint=error.hint) from None
    if not isinstance(vocabulary, JsonVocabulary):
        raise StudyError(f"{file} is no tokenizer.json", where=where)
    _check_use(vocabulary, sop=sop, where=where)
    with write_directory_atomic(folder.tokenizer) as temporary:
        shutil.copyfile(file, temporary / TOKENIZER_JSON)
        for name in _BESIDE:
            if (file.parent / name).is_file():
                shutil.copyfile(file.parent / name, temporary / name)
        _write_config(temporary / _CONFIG, vocabulary)
        # What the study opens from now on has to be what was looked at.
        assert open_vocabulary(temporary / TOKENIZER_JSON).digest == vocabulary.digest
        files = {path.name: digest_file(path) for path in sorted(temporary.iterdir())}
        manifest = {
            "schema": 1,
            "digest": vocabulary.digest,
            "vocabulary_size": vocabulary.size,
            "source": file.name,
            "files": files,
            **record,
        }
        write_json(temporary / "manifest.json", manifest)


def _check_use(vocabulary: JsonVocabulary, *, sop: bool, where: str) -> None:
    """Whether a masked model of one or two segments can be trained with it."""
    template = vocabulary.template
    if vocabulary.specials.mask is None:
        raise StudyError(
            f"the vocabulary ({vocabulary.title}) has no mask piece, so no word can be hidden in it",
            where=where,
            hint="It is of a causal model, or the files beside it do not name its mask_token.",
        )
    if template.single.around[0] != template.pair.around[0]:
        raise StudyError("its template begins one segment in another way than two", where=where)
    types = {kind for layout in (template.single, template.pair) for kind in _types(layout)}
    if not types <= {0, 1}:
        raise StudyError(f"its template has token types {sorted(types)}; the model knows 0 and 1", where=where)
    if sop and not template.pair.around[0]:
        raise StudyError(
            "its template puts no piece in front of a text, where the sentence-order head reads",
            where=where,
            hint='Set [recipe] objective = ["mlm"], or give the tokenizer a template with a cls piece.',
        )


def _types(layout: Any) -> list[int]:
    return [*layout.types, *(kind for added in layout.around for _, kind in added)]


def _write_config(path: Path, vocabulary: JsonVocabulary) -> None:
    """The configuration with which transformers opens the file as it is, whatever the model of the checkpoint."""
    config = read_object(path) if path.is_file() else {}
    # A class of a family would build its own normaliser and template around the pieces.
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config.pop("auto_map", None)
    for role in ROLES:
        number = getattr(vocabulary.specials, role)
        if number is not None:
            config[f"{role}_token"] = vocabulary.pieces[number]
    write_plain_json(path, config)


def open_json(folder: StudyFolder, manifest: Mapping[str, Any]) -> JsonTokenizer:
    """The tokenizer of a study whose manifest lists files; ShardError if one is not what was written."""
    for name, digest in manifest["files"].items():
        path = folder.tokenizer / name
        if not path.is_file() or digest_file(path) != digest:
            raise ShardError(
                "the study's tokenizer is missing or not what was written",
                where=str(path),
                hint="Restore it from a copy: every checkpoint of the study holds one.",
            )
    return JsonTokenizer(folder.tokenizer, manifest["digest"])
