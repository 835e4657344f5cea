"""ALBERT in PyTorch: transformers' `AlbertForPreTraining`, its MLM head on masked positions only."""

import numpy as np
import torch
from torch.nn import functional
from transformers import AlbertConfig, AlbertForPreTraining
from transformers.utils import logging

from lossary.backends.api import Backend, Logits, ScoreOutput
from lossary.backends.torch.training import Forward, TorchTraining, fetch, rows_of, spread
from lossary.data.examples import Examples
from lossary.models.parameters import hf_config, is_excluded, parameter_table
from lossary.models.shapes import AlbertShape
from lossary.study import Precision

__all__ = ["TorchBackend", "load"]


def load() -> type[Backend]:
    """The backend's class."""
    return TorchBackend


class TorchBackend(TorchTraining):
    """See `lossary.backends.api.Backend`."""

    def __init__(self, shape: AlbertShape, *, precision: Precision = "fp32", device: str | None = None) -> None:
        super().__init__(precision=precision, device=device)
        logging.set_verbosity_error()
        config = AlbertConfig.from_dict(hf_config(shape))
        config._attn_implementation = "sdpa"
        self.model = AlbertForPreTraining(config).to(self._device)
        self.model.train()
        named = dict(self.model.named_parameters())
        names = list(parameter_table(shape))
        if set(named) != set(names):
            raise AssertionError(f"transformers' parameters differ: {sorted(set(named) ^ set(names))}")
        self._take({name: named[name] for name in names}, [not is_excluded(name) for name in names], {})

    def score(self, examples: Examples) -> ScoreOutput:
        with torch.inference_mode():
            out = self._forward(examples)
            nats = functional.cross_entropy(out.mlm, out.labels, reduction="none")
            guesses = out.mlm.argmax(dim=1)
            assert out.sop is not None
            told, predicted, hits, order = fetch([nats, guesses, guesses == out.labels, out.sop])
        return ScoreOutput(
            rows=rows_of(examples, told, hits, order),
            position_nats=spread(examples, told, np.float32),
            predicted=spread(examples, predicted, np.int32),
        )

    def logits(self, examples: Examples) -> Logits:
        with torch.inference_mode():
            out = self._forward(examples)
        assert out.sop is not None
        mlm = np.zeros((*examples.positions.shape, out.mlm.shape[1]), np.float32)
        mlm[examples.weights > 0] = out.mlm.cpu().numpy()
        return Logits(mlm=mlm, sop=out.sop.cpu().numpy())

    def _forward(self, examples: Examples) -> Forward:
        used = examples.weights > 0
        width = examples.token_ids.shape[1]
        places = (np.arange(len(examples))[:, None] * width + examples.positions)[used]
        ids, segments, flat, labels = (
            torch.from_numpy(np.ascontiguousarray(values, np.int64)).to(self._device)
            for values in (examples.token_ids, examples.segment_ids, places, examples.labels[used])
        )
        # transformers would ask the device whether there is padding, and wait for the answer.
        is_padded = bool((examples.attention_mask == 0).any())
        mask = torch.from_numpy(examples.attention_mask[:, None, None] > 0).to(self._device) if is_padded else None
        with self._autocast():
            hidden, pooled = self.model.albert(
                input_ids=ids, attention_mask=mask, token_type_ids=segments, return_dict=False
            )[:2]
            mlm = self.model.predictions(hidden.reshape(-1, hidden.shape[-1]).index_select(0, flat))
            sop = self.model.sop_classifier(pooled)
        return Forward(mlm.float(), sop.float(), labels)
