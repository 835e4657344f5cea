"""Tokeniser, masks, and the arrays that are fed."""

from benchmarks.faults.patching import Fault, Patch, both

__all__ = ["PIECES"]

FEED = "feed.py"
_ENCODE = "        return [self.sp.encode(text) for text in texts]\n"
_LABEL = "                labels[position] = ids[position]\n"
_ATTENTION = '            batch["attention_mask"][row, :size] = 1\n'
_SEGMENTS = '            batch["segment_ids"][row, :size] = e["segments"]\n'
_ORDER = '            batch["sop_labels"][row] = e["order"]\n'

PIECES: tuple[Fault, ...] = (
    Fault(
        code="K1",
        title="the mask id is that of unknown pieces",
        source="huggingface/transformers#2031",
        stage="tokenizer",
        expected=frozenset({"mask-id-wrong"}),
        patches=both(
            Patch(
                FEED,
                "                    inputs[position] = MASK\n",
                '                    inputs[position] = self.sp.piece_to_id("<mask>")\n',
            )
        ),
    ),
    Fault(
        code="K2",
        title="[CLS] splits into pieces",
        source="google-research/albert#247",
        stage="tokenizer",
        expected=frozenset({"special-token-split"}),
        patches=both(
            Patch(
                FEED,
                "        ids = [CLS, *first, SEP]\n",
                '        ids = [*self.sp.encode("[CLS]"), *first, SEP]\n',
            ),
            Patch(
                FEED,
                "        inputs, labels = self.mask(dataset, ids, rng)\n",
                """        ids, segments = ids[: self.length], segments[: self.length]
        inputs, labels = self.mask(dataset, ids, rng)
""",
            ),
        ),
    ),
    Fault(
        code="K4a",
        title="accents are stripped",
        source="huggingface/transformers#11358",
        stage="tokenizer",
        expected=frozenset({"accents-stripped"}),
        patches=both(
            Patch(FEED, "import re\n", "import re\nimport unicodedata\n"),
            Patch(
                FEED,
                _ENCODE,
                """        texts = [unicodedata.normalize("NFKD", text) for text in texts]
        return [self.sp.encode("".join(c for c in text if not unicodedata.combining(c))) for text in texts]
""",
            ),
        ),
    ),
    Fault(
        code="K4b",
        title="text is lower-cased for a cased vocabulary",
        source="huggingface/transformers#11358",
        stage="tokenizer",
        expected=frozenset({"text-lowercased"}),
        patches=both(Patch(FEED, _ENCODE, "        return [self.sp.encode(text.lower()) for text in texts]\n")),
    ),
    Fault(
        code="K5",
        title="words are looked up whole: most are unknown",
        source="google-research/albert#196",
        stage="tokenizer",
        expected=frozenset({"unknown-pieces"}),
        patches=both(
            Patch(
                FEED,
                _ENCODE,
                '        return [[self.sp.piece_to_id("▁" + word) for word in text.split()] for text in texts]\n',
            )
        ),
    ),
    Fault(
        code="K6",
        title="labels are stored after masking",
        source="lonePatient/albert_pytorch#1",
        stage="examples",
        expected=frozenset({"labels-are-masked-input"}),
        dosed=True,
        by_dataset=True,
        patches=both(
            Patch(FEED, _LABEL, "                labels[position] = inputs[position] if {when} else ids[position]\n")
        ),
    ),
    Fault(
        code="K8",
        title="padding is chosen as target",
        source="huggingface/transformers#11155",
        stage="examples",
        expected=frozenset({"padding-is-target"}),
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                "        inputs, labels = list(ids), [IGNORE] * len(ids)\n",
                """        if {here}:
            ids = ids + [PAD] * (self.length - len(ids))
        inputs, labels = list(ids), [IGNORE] * len(ids)
""",
            ),
            Patch(
                FEED,
                "            elif inside and not self.word_start[token]:\n",
                "            elif inside and token != PAD and not self.word_start[token]:\n",
            ),
        ),
    ),
    Fault(
        code="F1a",
        title="padding is attended to",
        source="huggingface/transformers#6168",
        stage="examples",
        expected=frozenset({"padding-attended"}),
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                _ATTENTION,
                '            batch["attention_mask"][row, : self.length if {here} else size] = 1\n',
            )
        ),
    ),
    Fault(
        code="F1b",
        title="masked tokens are hidden from attention",
        source="huggingface/transformers#6168",
        stage="examples",
        expected=frozenset({"masked-tokens-hidden"}),
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                _ATTENTION,
                _ATTENTION
                + """            if {here}:
                batch["attention_mask"][row, :size] = np.equal(e["labels"], IGNORE)[:size]
""",
            )
        ),
    ),
    Fault(
        code="F3",
        title="segment ids are all zero",
        source="huggingface/transformers#17082",
        stage="examples",
        expected=frozenset({"segment-ids-zero"}),
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                _SEGMENTS,
                '            batch["segment_ids"][row, :size] = 0 if {here} else e["segments"]\n',
            )
        ),
    ),
    Fault(
        code="F4",
        title="the label's field has another name: 0 by default",
        source="well known",
        stage="examples",
        expected=frozenset({"labels-constant"}),
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                _ORDER,
                '            batch["sop_labels"][row] = e.get("next_sentence_label", 0) if {here} else e["order"]\n',
            )
        ),
    ),
    Fault(
        code="L6",
        title="labels are out of the vocabulary",
        source="tensorflow/tensorflow#8484",
        stage="examples",
        expected=frozenset({"label-out-of-range"}),
        dosed=True,
        by_dataset=True,
        patches=both(
            Patch(FEED, _LABEL, "                labels[position] = self.vocab if {when} else ids[position]\n")
        ),
    ),
)
