"""Which pieces are special, and what for: as the files beside a tokenizer say, else by their usual names."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lossary.errors import VocabularyError
from lossary.failures import reason
from lossary.vocabulary.api import Specials
from lossary.vocabulary.templates import BARE, Template, by_ends

__all__ = ["ROLES", "Beside", "configured_template", "find_specials", "read_beside", "read_object"]

ROLES = tuple(one.name for one in fields(Specials))
_NAMES = {
    "pad": ("[PAD]", "<pad>", "<|pad|>", "<|padding|>"),
    "unk": ("[UNK]", "<unk>", "<|unk|>"),
    "cls": ("[CLS]", "<cls>"),
    "sep": ("[SEP]", "<sep>"),
    "mask": ("[MASK]", "<mask>", "<|mask|>"),
    "bos": ("[BOS]", "<bos>", "<s>", "<|begin_of_text|>", "<|startoftext|>"),
    "eos": ("[EOS]", "<eos>", "</s>", "<|end_of_text|>", "<|endoftext|>"),
}


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What the files in a tokenizer's folder say of it."""

    config: Mapping[str, Any] = field(default_factory=dict)  # tokenizer_config.json
    added: Mapping[str, int] = field(default_factory=dict)  # ids of pieces that other files add
    names: Mapping[str, str] = field(default_factory=dict)  # special pieces by role
    kind: str = ""  # the class of the tokenizer, or the type of the model, as the files call it


def read_beside(folder: Path) -> Beside:
    """Raises VocabularyError if a file of the folder is damaged."""
    config = _optional(folder, "tokenizer_config.json")
    try:
        added = {str(name): int(number) for name, number in _optional(folder, "added_tokens.json").items()}
        for number, token in (config.get("added_tokens_decoder") or {}).items():
            if (content := _content(token)) is not None:
                added[content] = int(number)
    except (ValueError, TypeError, AttributeError) as error:
        message = f"ids of added tokens beside the tokenizer are not readable: {error}"
        raise VocabularyError(message, where=str(folder)) from None
    names: dict[str, str] = {}
    for source in (_optional(folder, "special_tokens_map.json"), config):
        found = {role: _content(source.get(f"{role}_token")) for role in ROLES}
        names |= {role: content for role, content in found.items() if content is not None}
    kind = config.get("tokenizer_class") or _optional(folder, "config.json").get("model_type")
    if not kind and (folder / "bert_config.json").is_file():
        kind = "bert"  # a folder of google-research's
    return Beside(config=config, added=added, names=names, kind=str(kind or ""))


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object. VocabularyError if it cannot be read or is something else."""
    try:
        text = path.read_text(encoding="utf-8")
        if text.startswith("version https://git-lfs"):
            hint = "`git lfs pull` in that folder fetches it."
            raise VocabularyError("it is a pointer of Git LFS, not the file itself", where=str(path), hint=hint)
        value = json.loads(text)
    except OSError as error:
        raise VocabularyError(f"not readable: {reason(error)}", where=str(path)) from None
    except RecursionError:
        raise VocabularyError("not readable as JSON: nested too deeply", where=str(path)) from None
    except ValueError as error:
        hint = "Is it cut short? Copy it again from where the model came from."
        raise VocabularyError(f"not readable as JSON: {error}", where=str(path), hint=hint) from None
    if not isinstance(value, dict):
        raise VocabularyError(f"a JSON object was expected, not a {type(value).__name__}", where=str(path))
    return value


def _optional(folder: Path, name: str) -> dict[str, Any]:
    return read_object(folder / name) if (folder / name).is_file() else {}


def _content(token: Any) -> str | None:
    """The text of a token, which files give as a string or as an object."""
    found = token.get("content") if isinstance(token, Mapping) else token
    return found if isinstance(found, str) and found else None


def find_specials(ids: Mapping[str, int], named: Mapping[str, int], beside: Beside, template: Template) -> Specials:
    """Special ids by role.

    `ids` are all pieces, and those in `named` may be special by their name alone. What the files beside it call by
    role comes first; then usual names; then what the template puts in front of a text and after it.
    """
    found = Specials(**{role: _by_name(role, ids, named, beside) for role in ROLES})
    before, after = template.pair.around[0], template.pair.around[1]
    first, next_one = ("cls", "sep") if found.mask is not None else ("bos", "eos")
    for role, added in ((first, before), (next_one, after)):
        if added and asdict(found)[role] is None:
            found = replace(found, **{role: added[0][0]})
    return found


def _by_name(role: str, ids: Mapping[str, int], named: Mapping[str, int], beside: Beside) -> int | None:
    if role in beside.names:
        return ids.get(beside.names[role])
    return next((named[name] for name in _NAMES[role] if name in named), None)


def configured_template(template: Template, specials: Specials, beside: Beside) -> Template:
    """The template, or what `add_bos_token` and `add_eos_token` ask for where it has no pieces of other roles."""
    ends = {"add_bos_token": specials.bos, "add_eos_token": specials.eos}
    if not any(isinstance(beside.config.get(key), bool) for key in ends):
        return template
    others = template.ids - {specials.bos, specials.eos}
    if others or (specials.mask is not None and template != BARE):
        return template
    bos, eos = (piece if beside.config.get(key) else None for key, piece in ends.items())
    return by_ends(bos, eos)
