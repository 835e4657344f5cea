"""What the diagnosis asks of blocks.py and net.py."""

import blocks
import net
import numpy as np
import torch

LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0"
PAIRS = {
    "words.weight": "albert.embeddings.word_embeddings.weight",
    "places.weight": "albert.embeddings.position_embeddings.weight",
    "segments.weight": "albert.embeddings.token_type_embeddings.weight",
    "bias": "predictions.bias",
} | {
    f"{mine}.{kind}": f"{theirs}.{kind}"
    for kind in ("weight", "bias")
    for mine, theirs in {
        "norm_in": "albert.embeddings.LayerNorm",
        "widen": "albert.encoder.embedding_hidden_mapping_in",
        "mix": f"{LAYER}.attention.dense",
        "norm_mix": f"{LAYER}.attention.LayerNorm",
        "up": f"{LAYER}.ffn",
        "down": f"{LAYER}.ffn_output",
        "norm_out": f"{LAYER}.full_layer_layer_norm",
        "pool": "albert.pooler",
        "order": "sop_classifier.classifier",
        "narrow": "predictions.dense",
        "norm_head": "predictions.LayerNorm",
    }.items()
}


class Side:
    name = "blocks.py and net.py"
    splits = True

    def __init__(self, setup):
        torch.manual_seed(setup.seed)
        torch.set_num_threads(setup.threads)
        self.setup = setup
        self.maker = blocks.BlockMaker(setup.tokenizer, setup.recipe, setup.datasets, setup.shares, setup.seed)
        self.training = net.Training(setup.shape, setup.recipe)

    # ---- data

    def encode(self, texts):
        return [self.maker.encode(text) for text in texts]

    def examples(self, documents, *, epoch):
        return self.maker.every(documents, epoch)

    def stream(self, documents, *, start, stop):
        return self.maker.stream(documents, start, stop)

    def validation(self, documents):
        return self.maker.evaluation(documents)

    # ---- model

    def _out(self, values):
        """Mine → canonical."""
        found = {}
        for name, value in values.items():
            if name.startswith("qkv"):
                parts = np.split(value, 3)
                kind = name.split(".")[1]
                found |= {
                    f"{LAYER}.attention.{part}.{kind}": one
                    for part, one in zip(("query", "key", "value"), parts, strict=True)
                }
            else:
                found[PAIRS[name]] = value
        return found

    def _in(self, canonical):
        """Canonical → mine."""
        found = {mine: canonical[theirs] for mine, theirs in PAIRS.items()}
        for kind in ("weight", "bias"):
            found[f"qkv.{kind}"] = np.concatenate(
                [canonical[f"{LAYER}.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            )
        return {name: torch.tensor(value) for name, value in found.items()}

    def load(self, weights):
        self.training.net.load_state_dict(self._in(weights))

    def initial(self):
        fresh = net.Net(self.setup.shape)
        return self._out({n: p.detach().numpy().copy() for n, p in fresh.named_parameters()})

    def weights(self):
        return self._out({n: p.detach().numpy().copy() for n, p in self.training.net.named_parameters()})

    def roundtrip(self):
        self.training.resume(self.training.save())
        return self.weights()

    def forward(self, feed, *, training=False):
        mlm, sop = self.training.logits(net.tensors(feed))
        return {"mlm": mlm.numpy(), "sop": sop.numpy()}

    def measure(self, outputs, feed):
        feed = net.tensors(feed)
        mlm, sop = torch.as_tensor(outputs["mlm"]), torch.as_tensor(outputs["sop"])
        if mlm.shape[1] != feed["mlm_labels"].shape[1]:  # at positions only
            feed["mlm_labels"] = torch.where(feed["weights"] > 0, feed["labels"].long(), -100)
        return net.evaluate(mlm, sop, feed)

    def evaluate(self, batches):
        return self.training.evaluation([net.tensors(feed) for feed in batches])

    # ---- steps

    def gradients(self, micro_batches):
        self.training.accumulate([net.tensors(feed) for feed in micro_batches])
        return self._out({n: p.grad.numpy().copy() for n, p in self.training.net.named_parameters()})

    def reported_loss(self, micro_batches):
        return self.training.accumulate([net.tensors(feed) for feed in micro_batches])

    def restart(self):
        self.training.optimizer = self.training.new_optimizer()

    def update(self, gradients, *, step):
        mean = {name: sum(one[name] for one in gradients) / len(gradients) for name in gradients[0]}
        mine = self._in(mean)
        for name, parameter in self.training.net.named_parameters():
            parameter.grad = mine[name]
        self.training.apply(step)

    def resume(self):
        self.training.resume(self.training.save())

    def learning_rates(self, start, stop):
        return [self.training.rate(step) for step in range(start, stop)]

    def train_step(self, feed, *, step):
        return self.training.step([net.tensors(feed)], step)


def side(setup):
    return Side(setup)
