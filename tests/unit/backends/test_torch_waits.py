"""How often a step waits for its device: once, however many micro batches it has."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from tests.unit.backends.examples import ragged_examples

from lossary.models.parameters import initial_parameters
from lossary.models.shapes import shape_of
from lossary.models.update_laws import UpdateLaw
from lossary.study import Optimizer, ScaledSize

# What cannot be answered before a device has done all it was given.
_WAITS = ("cpu", "item", "tolist", "numpy", "__float__", "__int__", "__bool__", "nonzero")


@pytest.mark.frameworks
@pytest.mark.parametrize("law", ["adamw", "lamb"])
@pytest.mark.parametrize("parts", [1, 3, 7])
def test_a_step_waits_for_its_device_once(parts: int, law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from lossary.backends.torch.backend import TorchBackend

    shape = shape_of(ScaledSize.model_validate({"from": "base", "width": 1 / 12, "depth": 1 / 12}), vocabulary_size=50)
    backend = TorchBackend(shape, device="cpu")
    backend.load_parameters(initial_parameters(shape, 0))
    backend.load_moments(None)
    backend.set_law(UpdateLaw.of(Optimizer(name=law)))
    examples = ragged_examples(50)
    micro = [examples.take(rows) for rows in np.array_split(np.arange(len(examples)), parts)]
    waits: Counter[str] = Counter()
    for name in _WAITS:
        _count(monkeypatch, torch.Tensor, name, waits)
    output = backend.train_step(micro, (float(examples.masked.sum()), 0.0), step=0, rate=1e-3)
    # The one array that is fetched is read as NumPy's, which waits no more.
    assert waits == {"cpu": 1, "numpy": 1}
    assert len(output.rows) == parts
    assert np.isfinite(np.concatenate([row.mlm_nats for row in output.rows])).all()


def _count(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, waits: Counter[str]) -> None:
    before = getattr(owner, name)

    def counted(*args: Any, **more: Any) -> Any:
        waits[name] += 1
        return before(*args, **more)

    monkeypatch.setattr(owner, name, counted)
