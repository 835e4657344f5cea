"""The facts that are counted of each example of a feed.

    FACTS["swapped-labelled-in-order"].says       # completes "k of n …"
    ROWS["swapped-labelled-in-order"]             # its row in rates

A fact is a count k of n for each example: "of two segments in order, labelled swapped". Most never happen in healthy
data, whatever its style; others have a declared rate (half of the pairs are swapped); some only tell faults apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from lossary.diagnosis.calibration import MOST_HELD_OUT, UNMASKED_FROM
from lossary.diagnosis.feeds.corpus import KINDS, LONE, ONE_LINE, PAIR

__all__ = ["FACTS", "LOW", "LOWEST", "MOST_HELD_OUT", "ROWS", "UNMASKED_FROM", "Fact", "Kind"]


LOW, LOWEST = 0.5, 0.1  # parts of the vocabulary, by id


class Kind(Enum):
    """What a healthy rate is."""

    HARD = "0, and seen without looking into the documents"
    INVARIANT = "0, but for ambiguous text"
    DECLARED = "declared"
    MEASURED = "not above that of the reference"
    NEAR = "near that of the reference, whatever its style"
    CHANCE = "what draws from all pieces alike give in these very examples"
    COMPARED = "any: a choice, or follows from others; tells faults apart"


# Of examples of which anything is so; how often depends on how much there is in an example, and a share tells better
# whether a fault has the same.
_SHARES = {
    "padding-scored": "padding-scored-share",
    "special-scored": "special-scored-share",
    "label-out-of-range": "label-out-of-range-share",
    "label-is-mask": "label-is-mask-share",
    "input-special": "input-special-share",
    "label-differs-from-text": "label-differs-share",
    "first-altered": "first-altered-share",
    "second-altered": "second-altered-share",
}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One fact; `says` completes "k of n …"."""

    name: str
    says: str
    kind: Kind
    declared: tuple[float, float] = (0.0, 0.0)

    @property
    def share(self) -> str | None:
        """The fact that tells faults apart in the place of this one, which raises alarms only."""
        return _SHARES.get(self.name)


def _table() -> dict[str, Fact]:
    rows: list[tuple[str, str, Kind]] = [
        ("no-cls-in-front", "examples do not start with [CLS]", Kind.HARD),
        ("separators-wrong", "examples do not have one [SEP] after each of at most two segments", Kind.HARD),
        ("cls-split", "examples start with the pieces of the text “[CLS]”", Kind.HARD),
        ("sep-split", "examples hold the pieces of the text “[SEP]”", Kind.HARD),
        ("padding-attended", "padded examples attend to some padding", Kind.HARD),
        ("padding-attended-throughout", "padded examples attend to all padding", Kind.COMPARED),
        ("scored-hidden", "examples hide a scored position from attention", Kind.HARD),
        ("scored-hidden-throughout", "examples hide all scored positions from attention", Kind.COMPARED),
        ("unscored-hidden", "examples hide an unscored piece from attention", Kind.HARD),
        ("unscored-hidden-throughout", "examples hide all unscored pieces from attention", Kind.COMPARED),
        ("first-segment-not-0", "first segments have another segment id than 0 somewhere", Kind.HARD),
        ("first-segment-not-0-throughout", "first segments have no segment id 0", Kind.COMPARED),
        ("second-segment-not-1", "second segments have another segment id than 1 somewhere", Kind.HARD),
        ("second-segment-not-1-throughout", "second segments have no segment id 1", Kind.COMPARED),
        ("leading-specials-not-0", "examples have another segment id than 0 at [CLS] or the first [SEP]", Kind.HARD),
        ("closing-separator-not-1", "pairs have another segment id than 1 at the closing [SEP]", Kind.HARD),
        ("segments-wrong-in-order", "pairs that stand in order have a wrong segment id somewhere", Kind.COMPARED),
        ("segments-wrong-swapped", "pairs that are swapped have a wrong segment id somewhere", Kind.COMPARED),
        ("padding-scored", "padded examples score padding", Kind.HARD),
        ("padding-scored-share", "places of padding are scored", Kind.COMPARED),
        ("special-scored", "examples score [CLS] or [SEP]", Kind.HARD),
        ("special-scored-share", "special pieces are scored", Kind.COMPARED),
        ("label-out-of-range", "examples have a label that is no piece", Kind.HARD),
        ("label-out-of-range-share", "labels are no piece", Kind.COMPARED),
        ("label-is-mask", "examples have the label [MASK]", Kind.HARD),
        ("label-is-mask-share", "labels are [MASK]", Kind.COMPARED),
        ("input-special", "examples show padding, [CLS] or [SEP] in the place of a scored piece", Kind.HARD),
        ("input-special-share", "scored pieces show padding, [CLS] or [SEP]", Kind.COMPARED),
        ("mask-unscored", "examples hold [MASK] where nothing is scored", Kind.HARD),
        ("unmasked", f"examples with {UNMASKED_FROM} scored positions or more show them as they stood", Kind.INVARIANT),
        ("single-labelled", "examples of a single segment have an order label", Kind.INVARIANT),
        ("pair-unlabelled", "pairs have no order label", Kind.INVARIANT),
        ("dataset-contradicted", "examples are of another dataset than they say", Kind.INVARIANT),
        ("first-altered", "first segments are not the documents' text", Kind.INVARIANT),
        ("second-altered", "second segments are not the documents' text", Kind.INVARIANT),
        ("first-altered-share", "unscored pieces of first segments stand in no document there", Kind.COMPARED),
        ("second-altered-share", "unscored pieces of second segments stand in no document there", Kind.COMPARED),
        ("crosses-documents", "examples have a segment of several documents", Kind.INVARIANT),
        (
            "label-differs-from-text",
            "examples have a label that is not the piece which stands in the document",
            Kind.INVARIANT,
        ),
        ("label-differs-share", "labels are not the piece which stands in the document", Kind.COMPARED),
        ("label-differs-as-mask", "labels that are not the document's piece are [MASK]", Kind.COMPARED),
        ("overlapping", "pairs overlap in their document", Kind.INVARIANT),
        ("in-order-labelled-swapped", "pairs that stand in order are labelled swapped", Kind.INVARIANT),
        ("swapped-labelled-in-order", "pairs that are swapped are labelled in order", Kind.INVARIANT),
        ("first-field-missing", "examples of pair documents hold nothing of the first field", Kind.INVARIANT),
        ("second-field-missing", "examples of pair documents hold nothing of the second field", Kind.INVARIANT),
        ("first-line-missing", "documents of several lines are used from their second line on", Kind.MEASURED),
        ("last-line-missing", "documents of several lines are used up to their last but one line", Kind.COMPARED),
        ("dataset-empty", "datasets yield no example", Kind.HARD),
        ("unknown-pieces", "pieces are <unk>", Kind.MEASURED),
        ("input-unknown", "scored positions show <unk>", Kind.MEASURED),
        ("mask-rate", "pieces are scored", Kind.DECLARED),
        ("mask-runs", "scored words stand behind a scored word", Kind.NEAR),
        ("masks-early", "scored pieces stand in the first half of their example", Kind.NEAR),
        ("split-early", "pairs are split in the first half of their text", Kind.NEAR),
        ("random-of-example", "random replacements stand elsewhere in their own example", Kind.CHANCE),
        ("random-common", "random replacements are of the commonest pieces, half of all text", Kind.CHANCE),
        ("random-low", "random replacements have an id in the lower half of the vocabulary", Kind.CHANCE),
        ("random-lowest", "random replacements have an id in the lowest tenth of the vocabulary", Kind.CHANCE),
        (
            "input-kept-throughout",
            "examples with several scored positions show at all of them what stood there",
            Kind.COMPARED,
        ),
        (f"paired:{KINDS[LONE]}", "examples of documents of one sentence are pairs", Kind.COMPARED),
        (f"paired:{KINDS[ONE_LINE]}", "examples of documents of one line are pairs", Kind.COMPARED),
        (f"paired:{KINDS[PAIR]}", "examples of pair documents are pairs", Kind.COMPARED),
        ("identical-labelled-swapped", "pairs with the same text twice are labelled swapped", Kind.COMPARED),
        ("other-labelled-swapped", "pairs of two documents are labelled swapped", Kind.COMPARED),
        ("other-is-neighbour", "pairs of two documents are of neighbours", Kind.COMPARED),
    ]
    for kind in KINDS:
        rows.append(
            (f"identical:{kind}", f"pairs from documents of the kind “{kind}” hold the same text twice", Kind.INVARIANT)
        )
        rows.append(
            (
                f"other-document:{kind}",
                f"pairs from documents of the kind “{kind}” are of two documents",
                Kind.INVARIANT,
            )
        )
    facts = [Fact(name=name, says=says, kind=kind) for name, says, kind in rows]
    facts += [
        # What a side keeps for validation is its own choice.
        Fact(
            name="document-unused",
            says="documents stand in no example",
            kind=Kind.DECLARED,
            declared=(0.0, MOST_HELD_OUT),
        ),
        Fact(name="swapped", says="pairs are swapped", kind=Kind.DECLARED, declared=(0.5, 0.5)),
        Fact(name="labelled-swapped", says="order labels say swapped", kind=Kind.DECLARED, declared=(0.5, 0.5)),
        Fact(name="input-masked", says="scored positions show [MASK]", kind=Kind.DECLARED, declared=(0.8, 0.8)),
        Fact(name="input-kept", says="scored positions show what stood there", kind=Kind.DECLARED, declared=(0.1, 0.1)),
        Fact(name="input-random", says="scored positions show another piece", kind=Kind.DECLARED, declared=(0.1, 0.1)),
    ]
    return {fact.name: fact for fact in facts}


FACTS: Mapping[str, Fact] = _table()
ROWS: Mapping[str, int] = {name: row for row, name in enumerate(FACTS)}
