"""Faults from public threads that the library of causes was not written for: what the diagnosis makes of the unforeseen."""

from typing import Any

from benchmarks.faults.patching import Fault, Patch, Patches, both
from benchmarks.faults.rows.naming import one
from benchmarks.faults.rows.updates import torch_adam

__all__ = ["THREADS"]

FEED, TORCH, ADAPTER = "feed.py", "torch_trainer.py", "adapter_torch.py"
_LOOP = """            loss = self.loss(batch, masked, pairs)
            loss.backward()
"""
_STREAM = "                orders[name, epoch] = self.order(name, epoch, len(chunks[name]))\n"
_APPEND = "            examples.append(self.example(chunks[name][orders[name, epoch][place]], epoch))\n"
_FIRST = "        first = start * self.batch_size\n"
_MASKS = """                draw = rng.random()
                if draw < 0.8:
                    inputs[position] = MASK
                elif draw < 0.9:
                    inputs[position] = rng.randrange(SPECIALS, self.vocab)
"""


def _thread(number: int, title: str, source: str, stage: str, patches: Patches, *expected: str, **more: Any) -> Fault:
    return Fault(
        code=f"T{number}",
        title=title,
        source=source,
        stage=stage,
        expected=frozenset(expected),
        patches=patches,
        **more,
    )


def _torch(old: str, new: str) -> Patches:
    return {"torch": one(TORCH, old, new)}


THREADS: tuple[Fault, ...] = (
    _thread(
        1,
        "the loss is divided by the accumulation that is configured, not by that of the step",
        "modelscope/ms-swift#10084",
        "gradients",
        _torch(_LOOP, _LOOP.replace("masked, pairs)", "*self.counts([batch])) / 4")),
        "gradient-scaled",
        "loss-scaled",
        "loss-times-micro-batches",
        micro_batches=3,
    ),
    _thread(
        2,
        "the output layer is a copy of the embeddings and trained apart",
        "NVIDIA-NeMo/Automodel#2511",
        "gradients",
        {
            "torch": (
                Patch(
                    TORCH,
                    "        self.sop = nn.Linear(h, 2)\n",
                    "        self.decoder = nn.Embedding(v, e)\n        self.sop = nn.Linear(h, 2)\n",
                ),
                Patch(TORCH, "F.linear(y, self.tokens.weight)", "F.linear(y, self.decoder.weight)"),
                Patch(
                    ADAPTER,
                    "        self.trainer.model.load_state_dict(state, strict=True)\n",
                    '        state["decoder.weight"] = state["tokens.weight"].clone()\n'
                    "        self.trainer.model.load_state_dict(state, strict=True)\n",
                ),
                Patch(
                    ADAPTER, "for name, value in state.items()}", "for name, value in state.items() if name in NAMES}"
                ),
                Patch(ADAPTER, "[replica[NAMES[name]] for name in self.parameters]", "self.of_all(replica)"),
                Patch(
                    ADAPTER,
                    "    def restart(self):\n",
                    """    def of_all(self, replica):
        missing = {"decoder.weight": np.zeros_like(replica[NAMES["tokens.weight"]])}
        return [replica[NAMES[name]] if name in NAMES else missing[name] for name in self.parameters]

    def restart(self):
""",
                ),
            ),
        },
        "tied-gradient-missing",
    ),
    _thread(
        3,
        "labels are smoothed, at evaluation, too",
        "pytorch/pytorch#129050",
        "loss",
        _torch(
            "    nats = -logits.log_softmax(-1).gather(-1, target[..., None])[..., 0]\n",
            "    logs = -logits.log_softmax(-1)\n"
            "    nats = 0.9 * logs.gather(-1, target[..., None])[..., 0] + 0.1 * logs.mean(-1)\n",
        ),
        "label-smoothing",
    ),
    _thread(
        4,
        "layer normalisation decays, since its modules have another name",
        "huggingface/transformers#10598",
        "update",
        {
            "torch": (
                Patch(
                    TORCH,
                    "        plain = [p for name, p in named if p.ndim < 2]\n"
                    "        matrices = [p for name, p in named if p.ndim >= 2]\n",
                    '        skipped = ("bias", "LayerNorm.weight")\n'
                    "        plain = [p for name, p in named if any(part in name for part in skipped)]\n"
                    "        matrices = [p for name, p in named if not any(part in name for part in skipped)]\n",
                ),
            ),
        },
        "decay-excluded-wrong",
    ),
    _thread(
        5,
        "positions begin at 2",
        "huggingface/sentence-transformers#3879",
        "forward",
        _torch(
            "        place = torch.arange(ids.shape[1])\n",
            "        place = (torch.arange(ids.shape[1]) + 2) % self.positions.num_embeddings\n",
        ),
        "positions-shifted",
    ),
    _thread(
        6,
        "what is too long loses its beginning",
        "kohjingyu/gill#4",
        "examples",
        both(Patch(FEED, "        longer.pop()\n", "        longer.pop(0)\n")),
        "truncated-elsewhere",
    ),
    _thread(
        7,
        "the number of masks is rounded down, to none for short examples",
        "well known",
        "examples",
        both(
            Patch(FEED, "max(1, round(self.mask_rate * len(ids)))", "int(self.mask_rate * len(ids))"),
        ),
        "mask-count",
        "mask-rate",
    ),
    _thread(
        8,
        "words are told by ##, which SentencePiece does not write",
        "facebookresearch/fairseq#1292",
        "examples",
        both(Patch(FEED, 'self.sp.id_to_piece(i).startswith("▁")', 'not self.sp.id_to_piece(i).startswith("##")')),
        "pieces-masked-alone",
    ),
    _thread(
        9,
        "the kind of masking is drawn once for a word",
        "well known",
        "examples",
        both(
            Patch(
                FEED,
                "            for position in word:\n",
                "            draw = rng.random()\n            for position in word:\n",
            ),
            Patch(FEED, "                draw = rng.random()\n                if", "                if"),
        ),
        "one-draw-for-a-word",
    ),
    _thread(
        10,
        "the schedule's length counts micro batches",
        "huggingface/accelerate#2926",
        "schedule",
        _torch("settings.warmup, self.recipe.steps)", "settings.warmup, 4 * self.recipe.steps)"),
        "schedule-shape",
    ),
    _thread(
        11,
        "the last batch of each epoch is dropped",
        "pytorch/pytorch#17075",
        "stream",
        both(
            Patch(
                FEED,
                "divmod(seen[name], len(chunks[name]))",
                "divmod(seen[name], max(1, len(chunks[name]) - len(chunks[name]) % self.batch_size))",
            )
        ),
        "epoch-cut",
    ),
    _thread(
        12,
        "examples are shuffled in a small buffer",
        "google/flax#1268",
        "stream",
        both(
            Patch(
                FEED,
                '        self.random("order", dataset, epoch).shuffle(order)\n        return order\n',
                """        rng, buffer, shuffled = self.random("order", dataset, epoch), [], []
        for place in order:
            buffer.append(place)
            if len(buffer) > 16:
                shuffled.append(buffer.pop(rng.randrange(len(buffer))))
        rng.shuffle(buffer)
        return shuffled + buffer
""",
            )
        ),
        "shuffled-in-part",
    ),
    _thread(
        13,
        "the moments are kept in bf16",
        "NVIDIA-NeMo/Automodel#2248",
        "update",
        {
            "torch": torch_adam(
                "for moment in (m, v):",
                "    moment.copy_(moment.bfloat16().float())",
                'corrected = (v / (1 - beta2 ** state["t"])).sqrt() + group["eps"]',
                'p.addcdiv_(m, corrected, value=-group["lr"] / (1 - beta1 ** state["t"]))',
            ),
        },
        "moments-rounded",
    ),
    _thread(
        14,
        "gradients are clipped by the norm of one replica",
        "areal-project/AReaL#312",
        "update",
        {
            "torch": (
                Patch(
                    TORCH,
                    "        for parameter, *gradients in zip(",
                    """        self.norm = math.sqrt(sum(float(np.square(g).sum()) for g in replicas[0]))
        for parameter, *gradients in zip(""",
                ),
                Patch(
                    TORCH,
                    "        norm = self.clip()\n",
                    """        norm = self.__dict__.pop("norm", None)
        if norm is None:
            norm = self.clip()
        else:
            most = self.recipe.optimizer.clip_norm or math.inf
            for parameter in self.model.parameters():
                parameter.grad *= min(1.0, most / (norm + 1e-6))
""",
                ),
            ),
        },
        "clipped-by-other-norm",
        replicas=2,
    ),
    _thread(
        15,
        "examples without an order count as ones in order",
        "well known",
        "loss",
        {
            "torch": (
                Patch(
                    TORCH,
                    '    nats = F.cross_entropy(logits, labels, ignore_index=-1, reduction="none")\n'
                    "    return nats, (labels >= 0).float()\n",
                    '    nats = F.cross_entropy(logits, labels.clamp(min=0), reduction="none")\n'
                    "    return nats, torch.ones_like(nats)\n",
                ),
                Patch(
                    TORCH,
                    '        pairs = sum(int((batch["sop_labels"] >= 0).sum()) for batch in batches)\n',
                    '        pairs = sum(len(batch["sop_labels"]) for batch in batches)\n',
                ),
            ),
        },
        "padding-scored",  # of orders: its sentence says so
    ),
    _thread(
        16,
        "padding is held off by -10 only",
        "Shujun-He/RibonanzaNet#5",
        "forward",
        _torch("0.0, torch.finfo(torch.float32).min)", "0.0, -10.0)"),
        "mask-too-weak",
    ),
    _thread(
        17,
        "shares are those of the examples there are",
        "NVIDIA/Megatron-LM#547",
        "stream",
        both(
            Patch(
                FEED,
                "        shares = [self.shares[name] for name in names]\n",
                "        shares = [len(chunks[name]) for name in names]\n",
            )
        ),
        "share-differs",
    ),
    _thread(
        18,
        "the loss is divided by all tokens, not by the masked ones",
        "OpenNMT/OpenNMT-py#2209",
        "gradients",
        _torch(
            'masked = sum(int((batch["mlm_labels"] != IGNORE).sum()) for batch in batches)',
            'masked = sum(int((batch["attention_mask"] > 0).sum()) for batch in batches)',
        ),
        "objective-weight",
        "gradient-scaled",
    ),
    _thread(
        19,
        "a run that is resumed in a later epoch goes on in the first one's order",
        "huggingface/accelerate#2016",
        "stream",
        both(
            Patch(
                FEED,
                _STREAM,
                "                again = 0 if start else epoch\n"
                + _STREAM.replace("order(name, epoch,", "order(name, again,"),
            )
        ),
        "resume-elsewhere",
    ),
    _thread(
        20,
        "masks are drawn from the seed again after a resume",
        "well known",
        "stream",
        both(
            Patch(FEED, _APPEND, _APPEND.replace("place]], epoch)", 'place]], f"{epoch} from {start}")')),
        ),
        "masks-redrawn-on-resume",
    ),
    _thread(
        21,
        "embeddings are multiplied by the root of their width",
        "well known",
        "forward",
        _torch(
            "        x = self.tokens(ids) + ", "        x = math.sqrt(self.tokens.embedding_dim) * self.tokens(ids) + "
        ),
        "embeddings-scaled",
    ),
    _thread(
        22,
        "attention is normalised over the queries",
        "labmlai/annotated_deep_learning_paper_implementations#282",
        "forward",
        _torch("scores.softmax(-1)", "scores.softmax(-2)"),
        "softmax-over-queries",
    ),
    _thread(
        23,
        "the second segment begins at the separator before it",
        "well known",
        "examples",
        both(
            Patch(
                FEED,
                "        segments = [0] * len(ids)\n",
                "        segments = [0] * (len(ids) - 1) + [int(bool(second))]\n",
            )
        ),
        "segments-off-by-one",
    ),
    _thread(
        24,
        "gradients are clipped at every micro batch",
        "tenstorrent/tt-metal#17568",
        "gradients",
        _torch(
            "            loss.backward()\n            total += float(loss.detach())\n",
            "            loss.backward()\n            self.clip()\n            total += float(loss.detach())\n",
        ),
        "gradient-scaled",
        micro_batches=3,
    ),
    _thread(
        25,
        "weights decay by the peak rate throughout",
        "NVIDIA/apex#1849",
        "update",
        {
            "torch": (
                *torch_adam(
                    'p.mul_((1 - self.defaults["lr"] * group["weight_decay"]) / (1 - group["lr"] * group["weight_decay"]))',
                    'corrected = (v / (1 - beta2 ** state["t"])).sqrt() + group["eps"]',
                    'p.addcdiv_(m, corrected, value=-group["lr"] / (1 - beta1 ** state["t"]))',
                ),
            ),
        },
        "weight-decay-value",  # of the peak, not multiplied by the rate
    ),
    _thread(
        26,
        "every sentence begins with [CLS]",
        "MakazhanAlpamys/Soup#788",
        "tokenizer",
        both(
            Patch(FEED, "[self.sp.encode(text) for text in texts]", "[[CLS, *self.sp.encode(text)] for text in texts]")
        ),
        "special-added",
    ),
)
