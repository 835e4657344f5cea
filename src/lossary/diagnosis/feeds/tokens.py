"""Which change of the text, or of the ids, makes lossary's tokenizer give the ids that a side's gives.

    fit = compare_tokens(side.encode(texts), texts, tokenizer)
    fit.best.names, fit.where            # ("text-lowercased",), the first text that differs

Ids are compared exactly. Each hypothesis is put before the tokenizer (a change of the text), into it (another rule of
normalisation) or behind it (a change of the ids, fitted); two of them may go together.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lossary.data.tokenizer import CLS, MASK, PAD, SEP, UNK, TokenizerModel
from lossary.diagnosis.feeds.sentencepiece_model import RULES, Encode, normalised_like, variant
from lossary.diagnosis.fit import Candidate, Fit

__all__ = ["Change", "Difference", "TokenFit", "changes", "compare_tokens", "encode_with"]

Ids = list[list[int]]
# Rows that hypotheses are tried on before one is checked on all.
_DIFFERING, _SAME = 200, 60
_BEAM = 6
_UNKNOWN = "\U0010fffd"  # a character that no tokenizer has a piece for


@dataclass(frozen=True, kw_only=True)
class Change:
    """One hypothesis."""

    name: str
    says: str
    text: Callable[[str], str] | None = None
    model: dict[str, Any] = field(default_factory=dict)  # arguments of `variant`
    words: Callable[[str], list[str]] | None = None  # that are looked up whole, in the place of the model
    ids: Callable[[list[int], str], list[int]] | None = None
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first text with other ids."""

    text: int  # which
    position: int  # of the first piece that differs
    side: tuple[str, ...]  # pieces from there on, ten at most
    reference: tuple[str, ...]
    excerpt: str  # of the text, a hundred characters at most


@dataclass(frozen=True, kw_only=True)
class TokenFit(Fit):
    """A fit, and where the ids differ first."""

    where: Difference | None = None
    differing: int = 0  # texts
    total: int = 0


def compare_tokens(side_ids: Sequence[Sequence[int]], texts: Sequence[str], tokenizer: TokenizerModel) -> TokenFit:
    """Compares the ids of texts; the distance is 0 where all are the same, else 1 and the number of texts that differ.

    Raises ValueError if there are not as many lists of ids as texts.
    """
    if len(side_ids) != len(texts):
        raise ValueError(f"{len(side_ids)} lists of ids for {len(texts)} texts")
    side, texts = [[int(piece) for piece in ids] for ids in side_ids], list(texts)
    own = [ids.tolist() for ids in tokenizer.encode(texts)]
    differing = [row for row, ids in enumerate(own) if ids != side[row]]
    how = f"ids of {len(texts):,} texts, compared exactly"
    if not differing:
        return TokenFit(distance=0.0, tried=(), how=how, total=len(texts))
    trial = _Trial(side, texts, differing, own, tokenizer)
    return TokenFit(
        distance=1.0 + len(differing),
        tried=tuple(trial.candidates()),
        how=how,
        where=_difference(differing[0], side, own, texts, tokenizer),
        differing=len(differing),
        total=len(texts),
    )


def _difference(row: int, side: Ids, own: Ids, texts: list[str], tokenizer: TokenizerModel) -> Difference:
    mine, theirs = own[row], side[row]
    pairs = enumerate(zip(mine, theirs, strict=False))
    position = next((i for i, (a, b) in pairs if a != b), min(len(mine), len(theirs)))
    pieces = tokenizer.pieces

    def shown(ids: list[int]) -> tuple[str, ...]:
        return tuple(pieces[i] if 0 <= i < len(pieces) else f"#{i}" for i in ids[position : position + 10])

    return Difference(text=row, position=position, side=shown(theirs), reference=shown(mine), excerpt=texts[row][:100])


# ---------------------------------------------------------------------------------------------------- changes of text


def _without_accents(text: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    return unicodedata.normalize("NFC", plain)


def _punctuation_apart(text: str) -> str:
    return "".join(f" {c} " if unicodedata.category(c).startswith("P") else c for c in text)


def _without_controls(text: str) -> str:
    return "".join(" " if c in "\t\n\r" else c for c in text if c in "\t\n\r" or unicodedata.category(c)[0] != "C")


def _letters_only(text: str) -> str:
    return "".join(c if c.isalnum() or c.isspace() else " " for c in text)


def changes(tokenizer: TokenizerModel) -> list[Change]:
    """The hypotheses that need no fitting: changes of the text and of the tokenizer's normaliser."""
    altered = "text-altered"
    found = [
        Change(name="text-lowercased", says="the text is lower-cased before it is tokenised", text=str.lower),
        Change(name="text-lowercased", says="the text's case is folded before it is tokenised", text=str.casefold),
        Change(name="accents-stripped", says="accents are stripped before tokenising", text=_without_accents),
        Change(name=altered, says="the text is put in upper case before it is tokenised", text=str.upper),
        Change(
            name="unknown-pieces",
            says="characters outside of ASCII become <unk>",
            text=lambda text: re.sub(r"[^\x00-\x7f]+", _UNKNOWN, text),
        ),
        Change(
            name="unknown-pieces",
            says="characters outside of Latin-1 become <unk>",
            text=lambda text: re.sub(r"[^\x00-\xff]+", _UNKNOWN, text),
        ),
        Change(
            name=altered, says="characters outside of ASCII are dropped", text=lambda t: re.sub(r"[^\x00-\x7f]", "", t)
        ),
        Change(name=altered, says="punctuation is set apart by spaces", text=_punctuation_apart),
        Change(name=altered, says="punctuation is dropped", text=_letters_only),
        Change(name=altered, says="control characters are dropped", text=_without_controls),
        Change(name=altered, says="digits become 0", text=lambda text: re.sub(r"\d", "0", text)),
        Change(name=altered, says="digits are dropped", text=lambda text: re.sub(r"\d", "", text)),
        Change(name=altered, says="the first letter is put in upper case", text=lambda t: t[:1].upper() + t[1:]),
        *(
            Change(
                name=altered,
                says=f"the text is normalised to {form}",
                text=lambda text, form=form: unicodedata.normalize(form, text),  # type: ignore[misc]
            )
            for form in ("NFC", "NFD", "NFKC")
        ),
        *(
            Change(
                name="unknown-pieces",
                says=f"{what} are looked up whole; those that are no piece of the vocabulary become <unk>",
                words=words,
            )
            for what, words in (
                ("words", str.split),
                ("words and signs of punctuation", lambda text: _punctuation_apart(text).split()),
            )
        ),
        Change(name=altered, says="no space is put in front of the text", model={"leading_space": False}),
        Change(name=altered, says="spaces in a row are kept", model={"keep_spaces": True}),
        Change(
            name=altered,
            says="the names of special pieces in the text become these pieces",
            ids=None,
            values={"specials": True},
        ),
    ]
    return found + [_by_rule(rule, tokenizer) for rule in RULES]


def _by_rule(rule: str, tokenizer: TokenizerModel) -> Change:
    """Another rule of normalisation; the name says what it changes of the tokenizer's own."""
    own, other = normalised_like(tokenizer.path), _plain(rule)
    name, says = "text-altered", f"the text is normalised by the rule {rule}, not by the tokenizer's own"
    if own("Q") == "q" and other("Q") == "Q":
        name, says = "case-kept", f"case is kept where the tokenizer folds it (rule {rule})"
    elif own("Q") == "Q" and other("Q") == "q":
        name, says = "text-lowercased", f"case is folded where the tokenizer keeps it (rule {rule})"
    elif own("é") == "e" and other("é") == "é":
        name, says = "accents-kept", f"accents are kept where the tokenizer strips them (rule {rule})"
    return Change(name=name, says=says, model={"rule": rule}, values={"rule": rule})


def _plain(rule: str) -> Callable[[str], str]:
    folds = rule.endswith("_cf")
    return lambda text: text.casefold() if folds else text


# ----------------------------------------------------------------------------------------------------- changes of ids


def _fitted(own: Ids, side: Ids) -> list[Change]:
    """Changes of ids that the ids themselves suggest."""
    found = [_truncated(own, side), _shifted(own, side), _wrapped(own, side), *_lost(own, side)]
    return [change for change in found if change is not None]


def _truncated(own: Ids, side: Ids) -> Change | None:
    most = max(map(len, side), default=0)
    if most == 0 or all(len(ids) <= most for ids in own):
        return None
    return Change(
        name="text-altered",
        says=f"only the first {most} pieces are kept",
        ids=lambda ids, _: ids[:most],
        values={"pieces": most},
    )


def _shifted(own: Ids, side: Ids) -> Change | None:
    pairs = [(a[0], b[0]) for a, b in zip(own, side, strict=True) if a and len(a) == len(b)]
    shifts = {b - a for a, b in pairs}
    if len(shifts) != 1 or shifts == {0}:
        return None
    shift = shifts.pop()
    return Change(
        name="text-altered",
        says=f"all ids are shifted by {shift}",
        ids=lambda ids, _: [piece + shift for piece in ids],
        values={"shift": shift},
    )


def _wrapped(own: Ids, side: Ids) -> Change | None:
    """Special pieces in front or behind, although none were asked for."""
    for front, back in ((CLS, SEP), (CLS, None), (None, SEP)):
        head, tail = [front] * (front is not None), [back] * (back is not None)
        if all(b == head + a + tail for a, b in zip(own, side, strict=True)):
            return Change(
                name="text-altered",
                says="special pieces are added where none were asked for",
                ids=lambda ids, _, head=head, tail=tail: head + ids + tail,  # type: ignore[misc]
                values={"front": front, "back": back},
            )
    return None


def _lost(own: Ids, side: Ids) -> list[Change]:
    """Pieces that become <unk> wherever they stand."""
    pairs = [(a, b) for x, y in zip(own, side, strict=True) if len(x) == len(y) for a, b in zip(x, y, strict=True)]
    lost = {a for a, b in pairs if b == UNK and a != UNK}
    if not lost:
        return []
    lowest, kept = min(lost), {a for a, b in pairs if a == b}
    found = [
        Change(
            name="unknown-pieces",
            says=f"{len(lost):,} pieces become <unk> wherever they stand",
            ids=lambda ids, _: [UNK if piece in lost else piece for piece in ids],
            values={"pieces": len(lost)},
        )
    ]
    if not kept or max(kept) < lowest:
        tail = Change(
            name="unknown-pieces",
            says=f"pieces from {lowest} on become <unk>",
            ids=lambda ids, _: [UNK if piece >= lowest else piece for piece in ids],
            values={"first": lowest},
        )
        found.insert(0, tail)
    return found


_SPECIALS = {"<pad>": PAD, "<unk>": UNK, "[CLS]": CLS, "[SEP]": SEP, "[MASK]": MASK}
_SPECIAL_NAMES = re.compile("(" + "|".join(map(re.escape, _SPECIALS)) + ")")


def _with_specials(encode: Encode, texts: list[str]) -> Ids:
    """Ids where the names of special pieces are read as these."""
    result: Ids = []
    for text in texts:
        parts = [part for part in _SPECIAL_NAMES.split(text) if part.strip()]
        ids = [[_SPECIALS[part]] if part in _SPECIALS else encode([part])[0] for part in parts]
        result.append([piece for part in ids for piece in part])
    return result


def _looked_up(words: Callable[[str], list[str]], tokenizer: TokenizerModel) -> Encode:
    """A tokenizer that knows whole words only."""
    ids = {piece: number for number, piece in enumerate(tokenizer.pieces)}
    return lambda texts: [[ids.get(f"▁{word}", UNK) for word in words(text)] for text in texts]


def encode_with(tried: Sequence[Change], texts: Sequence[str], tokenizer: TokenizerModel) -> Ids:
    """The ids of texts by lossary's tokenizer with some changes."""
    texts = list(texts)
    for change in tried:
        if change.text is not None:
            texts = [change.text(text) for text in texts]
    model = {key: value for change in tried for key, value in change.model.items()}
    encode: Encode = variant(tokenizer.path, **model)
    for change in tried:
        if change.words is not None:
            encode = _looked_up(change.words, tokenizer)
    specials = any("specials" in change.values for change in tried)
    ids = _with_specials(encode, texts) if specials else encode(texts)
    for change in tried:
        if change.ids is not None:
            ids = [change.ids(row, text) for row, text in zip(ids, texts, strict=True)]
    return ids


# -------------------------------------------------------------------------------------------------------------- trial


@dataclass(frozen=True)
class _Tried:
    changes: tuple[Change, ...]
    wrong: int  # texts of the sample that are not reproduced
    ids: Ids


class _Trial:
    def __init__(self, side: Ids, texts: list[str], differing: list[int], own: Ids, tokenizer: TokenizerModel) -> None:
        self.side, self.texts, self.tokenizer = side, texts, tokenizer
        stride = max(1, len(differing) // _DIFFERING)
        different = set(differing)
        same = [row for row in range(len(texts)) if row not in different]
        self.rows = differing[::stride][:_DIFFERING] + same[:: max(1, len(same) // _SAME)][:_SAME]
        self.sample_side = [side[row] for row in self.rows]
        self.sample_own = [own[row] for row in self.rows]
        self.changes = changes(tokenizer)

    def candidates(self) -> list[Candidate]:
        """What was tried, best first."""
        none = _Tried((), self._wrong(self.sample_own), self.sample_own)
        level = [self._tried((change,)) for change in self.changes]
        tried = self._with_fitted([none]) + self._with_fitted(level)
        if not any(entry.wrong == 0 for entry in tried):
            leading = sorted((entry for entry in level if entry.wrong < none.wrong), key=lambda entry: entry.wrong)
            pairs = [
                self._tried((*entry.changes, change))
                for entry in leading[:_BEAM]
                for change in self.changes
                if change not in entry.changes and not (set(change.model) & set(entry.changes[0].model))
            ]
            tried += self._with_fitted(pairs)
        better = [entry for entry in tried if entry.changes and entry.wrong < none.wrong]
        minimal: list[_Tried] = []
        for entry in sorted(better, key=_simplest):
            # What another one reproduces with fewer changes is no hypothesis of its own.
            if not any(other.wrong == entry.wrong and _among(other, entry) for other in minimal):
                minimal.append(entry)
        checked = [self._checked(entry) for entry in minimal[:_BEAM]]
        return sorted(checked, key=lambda found: found.rank)

    def _with_fitted(self, level: list[_Tried]) -> list[_Tried]:
        """The same, and each with a change of ids that its own ids suggest."""
        more = []
        for entry in level:
            for change in _fitted(entry.ids, self.sample_side) if entry.wrong else ():
                assert change.ids is not None
                ids = [change.ids(row, "") for row in entry.ids]
                more.append(_Tried((*entry.changes, change), self._wrong(ids), ids))
        return [entry for entry in level if entry.changes] + more

    def _tried(self, tried: tuple[Change, ...]) -> _Tried:
        ids = encode_with(tried, [self.texts[row] for row in self.rows], self.tokenizer)
        return _Tried(tried, self._wrong(ids), ids)

    def _wrong(self, ids: Ids) -> int:
        return sum(a != b for a, b in zip(ids, self.sample_side, strict=True))

    def _checked(self, entry: _Tried) -> Candidate:
        ids = encode_with(entry.changes, self.texts, self.tokenizer)
        wrong = sum(a != b for a, b in zip(ids, self.side, strict=True))
        values: dict[str, Any] = {"texts_not_reproduced": wrong}
        for change in entry.changes:
            values |= {key: value for key, value in change.values.items() if key != "specials"}
        return Candidate(
            names=tuple(dict.fromkeys(change.name for change in entry.changes)),
            says="; ".join(change.says for change in entry.changes),
            residual=1.0 + wrong if wrong else 0.0,
            values=values,
        )


def _among(few: _Tried, many: _Tried) -> bool:
    """Whether all changes of one are among those of the other."""
    described = {change.says for change in many.changes}
    return all(change.says in described for change in few.changes)


def _simplest(entry: _Tried) -> tuple[int, int]:
    return (entry.wrong, len(entry.changes))
