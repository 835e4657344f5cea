"""Which of a user's parameters is which canonical one: proposed from shapes and names, checked by values.

    names = propose_names({"enc.q.w": (64, 64), …}, parameter_table(shape))
    names.pairs["albert.pooler.weight"]         # Match(theirs="pool.w", transposed=False)
    names.unclear                               # canonical names whose match is a guess

A shape seldom tells a parameter alone: query, key and value are alike. What then decides is how alike the names are and
the order in which they come; such matches are `unclear` until `check_values` has compared arrays.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lossary.errors import UsageError

__all__ = ["Match", "Names", "check_values", "propose_names", "to_canonical", "to_theirs"]

Arrays = Mapping[str, NDArray[np.float32]]
_MOST_TOLD = 4

# Words that programs use for the same thing; each goes to one of them.
_SAME_WORD = {
    "kernel": "weight",
    "w": "weight",
    "gamma": "weight",
    "scale": "weight",
    "embeddings": "embedding",
    "beta": "bias",
    "b": "bias",
    "q": "query",
    "k": "key",
    "v": "value",
    "o": "dense",
    "out": "dense",
    "output": "output",
    "proj": "dense",
    "norm": "layernorm",
    "ln": "layernorm",
    "tok": "word",
    "token": "word",
    "pos": "position",
    "seg": "type",
    "segment": "type",
    "pool": "pooler",
    "mlm": "predictions",
    "lm": "predictions",
    "head": "predictions",
    "sop": "sop",
    "cls": "classifier",
    "intermediate": "ffn",
    "mapping": "mapping",
    "projection": "mapping",
}


@dataclass(frozen=True, kw_only=True)
class Match:
    """A user's parameter that is a canonical one, perhaps transposed."""

    theirs: str
    transposed: bool


@dataclass(frozen=True, kw_only=True)
class Names:
    """A proposal: matches by canonical name, those that are guesses, and what is left over on either side."""

    pairs: dict[str, Match]
    unclear: tuple[str, ...]
    missing: tuple[str, ...]  # canonical names without a match
    left: tuple[str, ...]  # of theirs

    def require(self) -> dict[str, Match]:
        """The matches; UsageError if a canonical name has none, or a guess only: weights that are mixed up look like a
        model that is wrong."""
        if self.missing:
            raise UsageError(
                f"no parameter of the model could be {', '.join(self.missing[:_MOST_TOLD])}",
                hint=f"Name them: names={{canonical: own}}. Left over: {', '.join(self.left) or 'none'}.",
            )
        if self.unclear:
            guesses = ", ".join(f"{name!r}: {self.pairs[name].theirs!r}" for name in self.unclear[:_MOST_TOLD])
            raise UsageError(
                f"names and shapes do not tell which parameter of the model is {self.unclear[0]}"
                + (f", nor {len(self.unclear) - 1} more" if len(self.unclear) > 1 else ""),
                hint=f"Name them: names={{canonical: own}}. Guesses: {guesses}"
                + (", …" if len(self.unclear) > _MOST_TOLD else "."),
            )
        return self.pairs


def propose_names(theirs: Mapping[str, tuple[int, ...]], table: Mapping[str, tuple[int, ...]]) -> Names:
    """Matches shapes (transposed ones, too; heads may be split off), then names, then order.

    The best pair of names is taken first, so that a likeness that is certain leaves less to guess for the others.
    """
    open_theirs, open_canonical = dict(theirs), dict(table)
    pairs: dict[str, Match] = {}
    fits = {name: [t for t in theirs if _fits(size, theirs[t]) is not None] for name, size in table.items()}
    likeness = {(name, t): _likeness(name, t) for name, candidates in fits.items() for t in candidates}
    scored = sorted((-likeness[pair], abs(_rank(pair[0], table) - _rank(pair[1], theirs)), *pair) for pair in likeness)
    for _, _, name, t in scored:
        if name in open_canonical and t in open_theirs:
            pairs[name] = Match(theirs=t, transposed=bool(_fits(table[name], theirs[t])))
            del open_canonical[name], open_theirs[t]
    ordered = {name: pairs[name] for name in table if name in pairs}
    return Names(
        pairs=ordered, unclear=_unclear(ordered, likeness), missing=tuple(open_canonical), left=tuple(open_theirs)
    )


def _unclear(pairs: Mapping[str, Match], likeness: Mapping[tuple[str, str], float]) -> tuple[str, ...]:
    """Both matches where a name and one of theirs, each matched otherwise, are as like each other as in their own."""
    of_names = {name: likeness[name, match.theirs] for name, match in pairs.items()}
    owners = {match.theirs: name for name, match in pairs.items()}
    unclear = set()
    for (name, theirs), value in likeness.items():
        owner = owners.get(theirs)
        if owner != name and value >= max(of_names.get(name, -1.0), of_names.get(owner or "", -1.0)):
            unclear |= {name, owner}
    return tuple(name for name in pairs if name in unclear)


def _rank(name: str, names: Mapping[str, object]) -> float:
    return list(names).index(name) / len(names)


def _words(name: str) -> set[str]:
    spaced = re.sub(r"([a-z])([A-Z])", r"\1.\2", name.replace("LayerNorm", "layernorm")).lower()
    # Numbers say nothing: ALBERT's one layer is number 0, and so is somebody's first of anything.
    parts = re.findall(r"[a-z]+", spaced)
    return {_SAME_WORD.get(part, part) for part in parts}


def _likeness(name: str, theirs: str) -> float:
    mine, other = _words(name), _words(theirs)
    return len(mine & other) / len(mine | other)


def _fits(size: tuple[int, ...], theirs: tuple[int, ...]) -> bool | None:
    """Whether a shape holds a canonical one, and then whether transposed; None if not.

    A square matrix does not tell: it is taken as it stands, and `check_values` knows better.
    """
    if int(np.prod(size)) != int(np.prod(theirs)):
        return None
    if tuple(theirs) == tuple(size) or len(size) == 1:
        return False
    if _joins(theirs, size[::-1]):
        return True
    return False if _joins(theirs, size) else None


def _joins(theirs: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether axes of `theirs` joined in order give `size`: (H, heads, d) gives (H, H)."""
    position = 0
    for extent in size:
        product = 1
        while product < extent and position < len(theirs):
            product *= theirs[position]
            position += 1
        if product != extent:
            return False
    return position == len(theirs)


def to_canonical(
    theirs: Arrays, pairs: Mapping[str, Match], table: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[np.float32]]:
    """Canonical arrays of a user's."""
    found = {}
    for name, match in pairs.items():
        value, size = np.asarray(theirs[match.theirs], np.float32), table[name]
        found[name] = np.ascontiguousarray(value.reshape(size[::-1]).T if match.transposed else value.reshape(size))
    return found


def to_theirs(
    canonical: Arrays, pairs: Mapping[str, Match], sizes: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[np.float32]]:
    """The inverse of `to_canonical`; `sizes` are the shapes of theirs."""
    return {
        match.theirs: np.ascontiguousarray(
            (canonical[name].T if match.transposed else canonical[name]).reshape(sizes[match.theirs])
        )
        for name, match in pairs.items()
    }


def check_values(theirs: Arrays, canonical: Arrays, names: Names) -> Names:
    """Corrects a proposal by values: the same weights in both programs have the same digest, transposed or not.

    `theirs` holds weights that came, by the user's own converter, from `canonical`. What no digest confirms stays
    unclear.
    """
    by_digest: dict[str, Match] = {}
    for t, value in theirs.items():
        by_digest[_digest(value)] = Match(theirs=t, transposed=False)
        if value.ndim > 1:
            for split in range(1, value.ndim):
                rows = int(np.prod(value.shape[:split]))
                by_digest.setdefault(_digest(value.reshape(rows, -1).T), Match(theirs=t, transposed=True))
    pairs, unclear = dict(names.pairs), []
    for name in names.pairs:
        match = by_digest.get(_digest(canonical[name]))
        if match is None:
            unclear.append(name)
        else:
            pairs[name] = match
    used = {match.theirs for match in pairs.values()}
    return Names(
        pairs=pairs, unclear=tuple(unclear), missing=names.missing, left=tuple(t for t in theirs if t not in used)
    )


def _digest(value: NDArray[np.float32]) -> str:
    """Of the numbers in reading order, whatever the shape."""
    return hashlib.blake2b(np.ascontiguousarray(value, np.float32).tobytes(), digest_size=16).hexdigest()
