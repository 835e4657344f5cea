"""What all PyTorch scorers do alike: inputs as tensors, heads on targets only, nats of logits, a model left as it was.

    with undisturbed(model), target_head(base, flat, before=False) as seen: ...

Nats are log-softmax in float32 (float64 where logits are), summed by example in float64.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from lossary.backends.api import ScoreOutput, row_sums
from lossary.backends.context import moved, tolerance_of
from lossary.data.examples import Examples
from lossary.errors import UsageError

__all__ = [
    "Inputs",
    "alone",
    "array_of",
    "check_padding",
    "inputs_of",
    "is_same",
    "score_logits",
    "target_head",
    "trimmed",
    "undisturbed",
    "usable_device",
    "weights_digest_of",
]


class Inputs(NamedTuple):
    """A batch as a model takes it, with the places of its targets."""

    token_ids: torch.Tensor  # (B, T), the pad id where no token stands
    attention_mask: torch.Tensor  # (B, T)
    segment_ids: torch.Tensor  # (B, T)
    flat: torch.Tensor  # (N,) places of the targets among B × T, ascending
    labels: torch.Tensor  # (N,)


def usable_device(name: str | None) -> torch.device:
    """The device of a name; a GPU if there is one, where none is named. UsageError if it cannot be used."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def trimmed(examples: Examples) -> Examples:
    """Without columns that are padding in every row: batches are cut to round lengths, a model may end before."""
    longest = max(1, int(examples.lengths.max(initial=0)))
    return examples.padded(length=longest, predictions=examples.positions.shape[1], rows=len(examples))


def alone(examples: Examples) -> tuple[int, Examples] | None:
    """The shortest row with targets that is padded in its batch, and a batch of it alone; None if there is none."""
    padded = (examples.lengths < examples.token_ids.shape[1]) & (examples.masked > 0)
    if not padded.any():
        return None
    row = int(np.argmin(np.where(padded, examples.lengths, np.iinfo(np.int32).max)))
    return row, trimmed(examples.take(np.array([row])))


def check_padding(found: torch.Tensor, expected: torch.Tensor, *, bits: int, what: str) -> None:
    """UsageError where logits of an example in its batch are not those of it alone: its loss would be the batch's.

    As FNet's, whose transform is over all that it is given, or those of a call that leaves the mask unused.
    """
    # Logits of float32, too, may be made of products of fewer digits: TF32, or autocast inside a call.
    share = (16 if bits < 32 else 4) * torch.finfo(torch.bfloat16).eps
    if found.shape == expected.shape:
        finite = torch.isfinite(found) & torch.isfinite(expected)
        scale = float(expected[finite].abs().max()) if finite.any() else 0.0
        if bool(((found - expected)[finite].abs() <= share * scale).all()):
            return
    raise UsageError(
        f"{what} answers otherwise where an example is padded: losses would depend on what else is in a batch",
        hint="--batch-size 1 (batch_size=1 in Python) scores every example without padding. A call of yours has to "
        "hand on the attention mask.",
    )


def inputs_of(examples: Examples, *, pad_id: int, device: torch.device) -> Inputs:
    """The tensors of a batch."""
    mask, used = examples.attention_mask, examples.weights > 0
    width = examples.token_ids.shape[1]
    arrays = (
        np.where(mask > 0, examples.token_ids, pad_id),
        mask,
        examples.segment_ids,
        (np.arange(len(examples))[:, None] * width + examples.positions)[used],
        examples.labels[used],
    )
    return Inputs(*(torch.from_numpy(np.ascontiguousarray(values, np.int64)).to(device) for values in arrays))


def score_logits(examples: Examples, logits: torch.Tensor, order: torch.Tensor | None) -> ScoreOutput:
    """Nats and predictions from logits (N, V) of all targets, row by row, and (B, 2) of the order if there are."""
    used = examples.weights > 0
    labels = torch.from_numpy(np.ascontiguousarray(examples.labels[used], np.int64)).to(logits.device)
    exact = logits if logits.dtype == torch.float64 else logits.float()
    nats = functional.cross_entropy(exact, labels, reduction="none")
    predicted = exact.argmax(dim=1)
    pairs = np.zeros((len(examples), 2), np.float32) if order is None else order.float().cpu().numpy()
    position_nats = _spread(used, nats, np.float32)
    rows = row_sums(examples, position_nats, _spread(used, predicted == labels, np.bool_), pairs)
    return ScoreOutput(rows=rows, position_nats=position_nats, predicted=_spread(used, predicted, np.int32))


def _spread(used: NDArray[np.bool_], flat: torch.Tensor, kind: type[np.generic]) -> NDArray[Any]:
    """Values (N,) of the used positions back to (B, P)."""
    values = np.zeros(used.shape, kind)
    values[used] = flat.cpu().numpy()
    return values


@contextmanager
def undisturbed(model: nn.Module | None, device: torch.device, *, bf16: bool = False) -> Iterator[None]:
    """Evaluation without gradients, in fp32 or under autocast; the model and the generators are left as they were.

    What modules cache under inference mode (rotary angles) could not be trained on later; nor may casts that are cached
    without a gradient outlive this block inside somebody's own autocast.
    """
    training = [(module, module.training) for module in model.modules()] if model is not None else []
    forked = [device] if device.type == "cuda" else []
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False)
    try:
        if model is not None:
            model.eval()
        with torch.random.fork_rng(forked), torch.no_grad(), autocast:
            yield
    finally:
        for module, was in training:
            module.training = was


@contextmanager
def target_head(module: nn.Module, flat: torch.Tensor, *, before: bool) -> Iterator[None]:
    """While it lasts, what leaves a module (or enters it, `before`) is (1, N, H): the rows of `flat` of its (B, T, H).

    Every head over a vocabulary works on each position by itself, so that what follows computes targets only.
    """

    def pick(hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.reshape(-1, hidden.shape[-1])
        return rows.index_select(0, flat.to(rows.device))[None]

    def enters(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (pick(args[0]), *args[1:])

    def leaves(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return pick(output)
        if isinstance(output, tuple):
            return (pick(output[0]), *output[1:])
        first = next(iter(output))
        output[first] = pick(output[first])
        return output

    hook = module.register_forward_pre_hook(enters) if before else module.register_forward_hook(leaves)
    try:
        yield
    finally:
        hook.remove()


def weights_digest_of(module: nn.Module) -> str:
    """The digest of names, shapes and bits of all weights and stored buffers, as `weights_digest` of a checkpoint's."""
    stored = dict(module.named_parameters())
    kept = module.state_dict(keep_vars=True)
    stored |= {name: buffer for name, buffer in module.named_buffers() if name in kept}
    hasher = hashlib.blake2b(digest_size=16)
    for name in sorted(stored):
        tensor = stored[name].detach()
        array = (tensor.float() if tensor.is_floating_point() else tensor).cpu().contiguous().numpy()
        hasher.update(f"{name}{array.shape}".encode())
        hasher.update(array.tobytes())
    return "blake2b:" + hasher.hexdigest()


def array_of(values: torch.Tensor) -> NDArray[Any]:
    """Logits as an array: 16 bits as float32, others as they are."""
    return np.asarray((values if values.dtype == torch.float64 else values.float()).detach().cpu().numpy())


def is_same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether logits are the same but for the order of sums: products of other shapes are added up otherwise."""
    bits = torch.finfo(expected.dtype).bits
    return moved(array_of(found), array_of(expected)) <= tolerance_of(bits)
