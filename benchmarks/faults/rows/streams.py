"""The order of training, shares, epochs, resuming; validation."""

from benchmarks.faults.patching import Fault, Patch, both

__all__ = ["STREAMS"]

FEED = "feed.py"
_KEY = "        rng = self.random(purpose, dataset, chunk.number, epoch)\n"
_SHARES = "        shares = [self.shares[name] for name in names]\n"
_DRAWN = '        drawn = self.random("mixture").choices(names, shares, k=stop * self.batch_size)\n'
_FIRST = "        first = start * self.batch_size\n"
_MASKED = "        inputs, labels = self.mask(dataset, ids, rng)\n"

STREAMS: tuple[Fault, ...] = (
    Fault(
        code="D11",
        title="every worker yields the whole stream",
        source="huggingface/datasets#3423",
        stage="stream",
        expected=frozenset({"stream-duplicated"}),
        patches=both(
            Patch(
                FEED,
                "divmod(seen[name], len(chunks[name]))",
                "divmod(seen[name] // 2, len(chunks[name]))",
            )
        ),
    ),
    Fault(
        code="D12a",
        title="the same masks in every epoch",
        source="huggingface/transformers#4398",
        stage="stream",
        expected=frozenset({"same-masks-every-epoch"}),
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                _KEY,
                "        rng = self.random(purpose, dataset, chunk.number, 0 if {here} else epoch)\n",
            )
        ),
    ),
    Fault(
        code="D12b",
        title="the same order in every epoch",
        source="huggingface/transformers#4398",
        stage="stream",
        expected=frozenset({"same-order-every-epoch"}),
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                '        self.random("order", dataset, epoch).shuffle(order)\n',
                '        self.random("order", dataset, 0 if {here} else epoch).shuffle(order)\n',
            )
        ),
    ),
    Fault(
        code="D14a",
        title="a dataset is starved",
        source="NVIDIA/Megatron-Energon#266",
        stage="stream",
        expected=frozenset({"share-differs"}),
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                _SHARES,
                '        shares = [self.shares[name] * (0.3 if name == "{dataset}" else 1) for name in names]\n',
            )
        ),
    ),
    Fault(
        code="D14b",
        title="all datasets are drawn alike",
        source="NVIDIA/Megatron-Energon#266",
        stage="stream",
        expected=frozenset({"share-differs"}),
        patches=both(Patch(FEED, _SHARES, "        shares = [1 for name in names]\n")),
    ),
    Fault(
        code="D14c",
        title="a dataset is missing",
        source="NVIDIA/Megatron-Energon#266",
        stage="stream",
        expected=frozenset({"dataset-missing"}),
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                "        names = [name for name in self.datasets if chunks[name]]\n",
                '        names = [name for name in self.datasets if chunks[name] and name != "{dataset}"]\n',
            )
        ),
    ),
    Fault(
        code="D15a",
        title="a resumed run replays data",
        source="OpenNMT/OpenNMT-py#2006",
        stage="stream",
        expected=frozenset({"resume-replays"}),
        patches=both(
            Patch(FEED, _DRAWN, _DRAWN.replace("stop * self", "(stop - start) * self")),
            Patch(FEED, _FIRST, "        first = 0\n"),
        ),
    ),
    Fault(
        code="D15b",
        title="a resumed run skips data",
        source="OpenNMT/OpenNMT-py#2006",
        stage="stream",
        expected=frozenset({"resume-skips"}),
        patches=both(
            Patch(FEED, _DRAWN, _DRAWN.replace("stop * self", "(stop + start) * self")),
            Patch(FEED, _FIRST, "        first = 2 * start * self.batch_size\n"),
        ),
    ),
    Fault(
        code="K7",
        title="evaluation is not masked",
        source="huggingface/transformers#1633",
        stage="validation",
        expected=frozenset({"evaluation-unmasked"}),
        dosed=True,
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                _MASKED,
                _MASKED + '        if purpose == "validation" and {when}:\n            inputs = list(ids)\n',
            )
        ),
    ),
    Fault(
        code="K11",
        title="masks are drawn anew at each evaluation",
        source="facebookresearch/XLM#151 avoids it",
        stage="validation",
        expected=frozenset({"validation-redrawn"}),
        by_dataset=True,
        patches=both(
            Patch(
                FEED,
                _KEY,
                _KEY + '        if purpose == "validation" and {here}:\n            rng = random.Random()\n',
            )
        ),
    ),
)
