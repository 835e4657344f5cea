"""A worker that asks transformers about a model for a process of another framework: its settings, its first weights."""

from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from lossary.backends.process import Emit, worker_main
from lossary.backends.torch.encoders import initial_weights, resolve
from lossary.models.architectures import EncoderShape, shape_from, shape_value

__all__ = ["main"]


def _draw(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """With a `file` the weights of a seed, written there; else the shape with all settings, and notes."""
    del emit
    shape = shape_from(job["shape"])
    assert isinstance(shape, EncoderShape)
    if "file" in job:
        save_file(initial_weights(shape, job["seed"]), Path(job["file"]))
        return {}
    found, notes = resolve(shape)
    return {"shape": shape_value(found), "notes": notes}


def main() -> None:
    """Entry point of the process."""
    worker_main(_draw)


if __name__ == "__main__":
    main()
