"""The data are a pure function of the study: the same bytes as when these digests were taken (2026-11-28).

How shards, spans and validation parts are stored must never show in what a model is given.
"""

from dataclasses import fields

import numpy as np

from lossary.data.batches import TrainingData
from lossary.data.examples import Examples
from lossary.data.validation import load_validation
from lossary.files import digest_bytes
from lossary.folder import StudyFolder
from lossary.study import Study


def digest(examples: Examples, names: list[str]) -> str:
    """Of everything but the padding, and of names instead of positions among the datasets."""
    trimmed = examples.padded(
        length=int(examples.lengths.max()), predictions=int(examples.masked.max()), rows=len(examples)
    )
    content = [",".join(names[number] for number in examples.dataset.tolist()).encode()]
    content += [getattr(trimmed, field.name).tobytes() for field in fields(trimmed) if field.name != "dataset"]
    return digest_bytes(b"|".join(content))


def test_batches_of_training_are_what_they_were(prepared: tuple[Study, StudyFolder]) -> None:
    study, folder = prepared
    found = {}
    for run in study.runs:
        data = TrainingData(study, folder, run)
        found[run] = [digest(data.batch(step), data.datasets) for step in (0, 1, 7, 500)]
    assert found == TRAINING


def test_frozen_examples_are_what_they_were(prepared: tuple[Study, StudyFolder]) -> None:
    validation = load_validation(prepared[1])
    found = {}
    for number, name in enumerate(validation.datasets):
        rows = np.flatnonzero(validation.examples.dataset == number)
        found[name] = digest(validation.examples.take(rows), validation.datasets)
    assert found == FROZEN


_BOTH = [
    "blake2b:d2957b534f104266674193dc4b2e1d3f",
    "blake2b:fc2194c8587f4b710691d042631090dc",
    "blake2b:532e1da2458799b14763d3d50da4dc1b",
    "blake2b:f23aac94416e347d2dab38dc292ce948",
]
TRAINING = {
    "torch_a": _BOTH,
    "tf_a": _BOTH,
    "torch_stories": [
        "blake2b:a8f0010d238cadaab7d0ac84ca205018",
        "blake2b:809f36e924d5c3fcbc407c1d8ec16003",
        "blake2b:d4272fffad6bb6b4203a56e8a73eed0a",
        "blake2b:4828d949b1d75f746f31e0acfef59870",
    ],
}
FROZEN = {
    "lines": "blake2b:1e03cb9f30c5ea33f1c21dae4fc26f62",
    "pairs": "blake2b:16076fd9c8d4aaaf8e9cc100ebcffbd7",
    "stories": "blake2b:104a314ceca1d8977dcdb47f6d2ed130",
}
