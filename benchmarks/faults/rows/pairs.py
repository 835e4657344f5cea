"""Documents and pairs: what is read, cut, paired and labelled."""

from benchmarks.faults.patching import Fault, Patch, both

__all__ = ["PAIRS"]

FEED = "feed.py"
_RETURN = "        return first, second, int(swapped)\n"
_LONE = """        if len(sentences) < 2:
            return sentences[0][:room], [], UNLABELLED
"""
_SWAP = """        if swapped:
            first, second = second, first
"""
_TEXT = '            text = document["text"]\n'
_FIELDS = "            fields = [text] if isinstance(text, str) else list(text)\n"
_YIELD = "            yield dataset, fields\n"
_LOOP = "        for document in documents:\n"

PAIRS: tuple[Fault, ...] = (
    Fault(
        code="D1",
        title="label polarity swapped",
        source="google-research/bert#125, codertimo/BERT-pytorch#110",
        stage="examples",
        expected=frozenset({"labels-flipped"}),
        dosed=True,
        by_dataset=True,
        patches=both(Patch(FEED, _RETURN, "        if {when}:\n            swapped = not swapped\n" + _RETURN)),
    ),
    Fault(
        code="D2",
        title="both segments identical",
        source="brightmart/albert_zh#23",
        stage="examples",
        expected=frozenset({"identical-segments"}),
        dosed=True,
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                _LONE,
                """        if {when}:
            half = [token for s in sentences for token in s][: room // 2]
            return half, list(half), int(rng.random() < 0.5)
"""
                + _LONE,
            )
        ),
    ),
    Fault(
        code="D3",
        title="lone sentence gets a random second segment, label 1",
        source="google-research/albert#234",
        stage="examples",
        expected=frozenset({"lone-sentence-random-second"}),
        dosed=True,
        by_dataset=True,
        datasets=("names",),
        patches=both(
            Patch(
                FEED,
                _LONE,
                """        if len(sentences) < 2:
            if {when}:
                other = rng.choice([chunk for chunk in self.corpus if chunk.dataset == dataset])
                first, second = list(sentences[0]), [token for s in other.sentences for token in s]
                truncate(first, second, room)
                return first, second, 1
            return sentences[0][:room], [], UNLABELLED
""",
            )
        ),
    ),
    Fault(
        code="D5",
        title="no document breaks",
        source="google-research/albert#202",
        stage="examples",
        expected=frozenset({"segments-cross-documents"}),
        dosed=True,
        by_dataset=True,
        patches=both(
            Patch(FEED, _LOOP, '        rng = self.random("read")\n        previous = None\n' + _LOOP),
            Patch(
                FEED,
                _YIELD,
                """            if previous and previous[0] == dataset and len(fields) == 1 and len(previous[1][0]) < 4000 and {when}:
                previous[1][0] += "\\n" + fields[0]
                continue
            if previous:
                yield previous
            previous = dataset, fields
        if previous:
            yield previous
""",
            ),
        ),
    ),
    Fault(
        code="D6",
        title="the “random” second segment is the true next one",
        source="NVIDIA/DeepLearningExamples#421",
        stage="examples",
        expected=frozenset({"swapped-label-in-order"}),
        dosed=True,
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                _SWAP,
                "        if swapped and not ({when}):\n            first, second = second, first\n",
            )
        ),
    ),
    Fault(
        code="D7",
        title="the maker of next-sentence pairs is on",
        source="google-research/google-research#81",
        stage="examples",
        expected=frozenset({"second-from-another-document"}),
        dosed=True,
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                _SWAP,
                """        if swapped and ({when}):
            other = rng.choice([chunk for chunk in self.corpus if chunk.dataset == dataset])
            second = [token for s in other.sentences for token in s]
            truncate(first, second, room)
        elif swapped:
            first, second = second, first
""",
            )
        ),
    ),
    Fault(
        code="D8",
        title="repeated documents",
        source="google-research/bert#746",
        stage="stream",
        expected=frozenset({"repeated-documents"}),
        dosed=True,
        by_dataset=True,
        patches=both(
            Patch(FEED, _LOOP, '        rng = self.random("read")\n' + _LOOP),
            Patch(FEED, _YIELD, _YIELD + "            if {when}:\n                yield dataset, fields\n"),
        ),
    ),
    Fault(
        code="D9",
        title="training holds validation documents",
        source="openai/parameter-golf#2127",
        stage="validation",
        expected=frozenset({"training-has-validation-documents"}),
        dosed=True,
        shown_by=0.1,  # what the user keeps for validation
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                "        return [chunk for chunk in self.load(documents) if not is_held_out(chunk.document)]\n",
                """        rng, kept = self.random("split"), []
        for chunk in self.load(documents):
            dataset = chunk.dataset
            if not is_held_out(chunk.document) or ({when}):
                kept.append(chunk)
        return kept
""",
            )
        ),
    ),
    Fault(
        code="D10a",
        title="the reader drops the first line",
        source="well known; as in huggingface/transformers' line-by-line datasets",
        stage="examples",
        expected=frozenset({"first-line-dropped"}),
        dosed=True,
        by_dataset=True,
        datasets=("fortunes",),
        patches=both(
            Patch(FEED, _LOOP, '        rng = self.random("read")\n' + _LOOP),
            Patch(
                FEED,
                _FIELDS,
                _FIELDS
                + """            if len(fields) == 1 and {when}:
                fields = ["\\n".join(fields[0].splitlines()[1:])]
""",
            ),
        ),
    ),
    Fault(
        code="D10b",
        title="the first column is read instead of the text",
        source="huggingface/transformers, run_mlm.py: column_names[0] where no column is called text",
        stage="examples",
        # Texts that are all the same fall on one side of a split: evaluation has none of them.
        expected=frozenset({"wrong-field", "dataset-missing"}),
        by_dataset=True,
        patches=both(
            Patch(FEED, _TEXT, _TEXT + "            if {here}:\n                text = next(iter(document.values()))\n")
        ),
    ),
    Fault(
        code="D10c",
        title="one field of a pair is read",
        source="well known",
        stage="examples",
        expected=frozenset({"wrong-field"}),
        by_dataset=True,
        datasets=("pairs",),
        patches=both(
            Patch(FEED, _FIELDS, _FIELDS + "            if {here}:\n                fields = fields[:1]\n"),
        ),
    ),
)
