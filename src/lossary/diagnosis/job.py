"""The worker of a side: `python -m lossary.diagnosis.job JOB.json` loads it and answers requests from standard input.

A request names an operation, the file of its arguments and the file for its result. What user code raises is an
answer, too: the diagnosis goes on with what else the side can show.
"""

import contextlib
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lossary.backends.process import Emit, worker_main
from lossary.diagnosis import traces
from lossary.diagnosis.adapter import CAPABILITIES, Arrays, Setup
from lossary.diagnosis.scripts import load_script, place_of
from lossary.errors import LossaryError, UsageError
from lossary.models.shapes import AlbertShape
from lossary.study import Recipe

__all__ = ["load_adapter", "main", "operate", "setup_of", "setup_value"]


def main() -> None:
    """Answers requests until standard input ends."""
    worker_main(_work)


def _work(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    adapter = load_adapter(job["side"], setup_of(job["setup"]))
    emit({"event": "ready", "cpu_s": time.process_time()})
    for line in sys.stdin:
        emit(answer(adapter, json.loads(line)))
    return {}


def answer(adapter: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Does what a request asks and writes the result to its file; returns the event that says so."""
    started = time.process_time()
    arguments = traces.load(Path(request["arguments"]))
    try:
        value = operate(adapter, request["operation"], arguments)
        traces.write(Path(request["result"]), {"value": value, "cpu_s": time.process_time() - started})
    except LossaryError:
        raise
    except Exception as error:  # User code may raise anything, and that is what is to be told.
        traceback.print_exc()
        said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(": ")
        result = {"raised": said, "at": place_of(error), "cpu_s": time.process_time() - started}
        traces.write(Path(request["result"]), result)
    return {"event": "answer"}


def setup_value(setup: Setup) -> dict[str, Any]:
    """A setup as JSON."""
    return {
        "shape": setup.shape.described,
        "recipe": setup.recipe.model_dump(),
        "tokenizer": str(setup.tokenizer),
        "datasets": list(setup.datasets),
        "shares": dict(setup.shares),
        "seed": setup.seed,
        "threads": setup.threads,
        "drawn_as": dict(setup.drawn_as),
    }


def setup_of(value: dict[str, Any]) -> Setup:
    """The inverse of `setup_value`."""
    return Setup(
        shape=AlbertShape(**value["shape"]),
        recipe=Recipe.model_validate(value["recipe"]),
        tokenizer=Path(value["tokenizer"]),
        datasets=tuple(value["datasets"]),
        shares=value["shares"],
        seed=value["seed"],
        threads=value["threads"],
        drawn_as=value["drawn_as"],
    )


def load_adapter(side: dict[str, Any], setup: Setup) -> Any:
    """The object that a side's description means: a user's adapter, one of lossary's backends, or a run."""
    if side["kind"] == "adapter":
        try:
            return _make(load_script(Path(side["path"])), setup, side["path"])
        except LossaryError:
            raise
        except Exception as error:  # User code may raise anything.
            traceback.print_exc()
            raise UsageError(
                f"the adapter cannot be loaded: {type(error).__name__}: {error} ({place_of(error)})", where=side["path"]
            ) from None
    from lossary.diagnosis.own import own_side

    return own_side(side, setup)


def _make(module: ModuleType, setup: Setup, where: str) -> Any:
    make = getattr(module, "side", None)
    if not callable(make):
        raise UsageError(
            "there is no function `side`", where=where, hint="An adapter has `def side(setup)` that returns the side."
        )
    return make(setup)


def operate(adapter: Any, operation: str, arguments: dict[str, Any]) -> Any:
    """One operation of an adapter on decoded arguments."""
    return _OPERATIONS[operation](adapter, **arguments)


def _describe(adapter: Any) -> dict[str, Any]:
    lacks = getattr(adapter, "lacks", ())
    weights: Arrays | None = None
    if callable(getattr(adapter, "weights", None)):
        # Some have none before they have loaded any; what is wrong with it, the checks tell.
        with contextlib.suppress(Exception):
            weights = dict(adapter.weights())
    return {
        "name": str(getattr(adapter, "name", type(adapter).__name__)),
        "declared": dict(getattr(adapter, "declared", {})),
        "capabilities": [name for name in CAPABILITIES if callable(getattr(adapter, name, None)) and name not in lacks],
        "splits": bool(getattr(adapter, "splits", False)),
        "accumulates": bool(getattr(adapter, "accumulates", True)),
        "weights": None if weights is None else {name: list(np.shape(value)) for name, value in weights.items()},
    }


def _encode(adapter: Any, texts: list[str]) -> dict[str, Any]:
    ids = [np.asarray(piece_ids, np.int32).reshape(-1) for piece_ids in adapter.encode(texts)]
    flat = np.concatenate(ids) if ids else np.zeros(0, np.int32)
    return {"ids": flat, "counts": np.array([len(one) for one in ids], np.int64)}


def _forward(adapter: Any, feed: Arrays, weights: Arrays | None, training: bool, repeats: int) -> list[Any]:
    if weights is not None:
        adapter.load(weights)
    return [_outputs(adapter.forward(feed, training=training)) for _ in range(repeats)]


def _outputs(outputs: dict[str, Any]) -> dict[str, Any]:
    activations = {name: np.asarray(value, np.float32) for name, value in (outputs.get("activations") or {}).items()}
    kept = {name: np.asarray(outputs[name], np.float32) for name in ("mlm", "sop") if outputs.get(name) is not None}
    return {**kept, "activations": activations}


def _weights(adapter: Any, weights: Arrays) -> Arrays:
    adapter.load(weights)
    return dict(adapter.weights())


def _roundtrip(adapter: Any, weights: Arrays) -> Arrays:
    adapter.load(weights)
    return dict(adapter.roundtrip())


def _gradients(adapter: Any, weights: Arrays, micro_batches: list[Arrays]) -> Arrays:
    adapter.load(weights)
    return dict(adapter.gradients(micro_batches))


def _reported_loss(adapter: Any, weights: Arrays, micro_batches: list[Arrays]) -> float:
    adapter.load(weights)
    return float(adapter.reported_loss(micro_batches))


def _updates(adapter: Any, weights: Arrays, gradients: list[list[Arrays]], first: int) -> list[Arrays]:
    adapter.load(weights)
    adapter.restart()
    after = []
    for step, replicas in enumerate(gradients, first):
        adapter.update(replicas, step=step)
        after.append(_copies(adapter.weights()))
    return after


def _resumed(adapter: Any, weights: Arrays, gradients: list[list[Arrays]], first: int, at: int) -> dict[str, Any]:
    """Updates with a resume before the one with number `at`; also the weights that it brings back."""
    adapter.load(weights)
    adapter.restart()
    after, loaded = [], {}
    for number, replicas in enumerate(gradients):
        if number == at:
            adapter.resume()
            loaded = _copies(adapter.weights())
        adapter.update(replicas, step=first + number)
        after.append(_copies(adapter.weights()))
    return {"weights": after, "loaded": loaded}


def _train(adapter: Any, weights: Arrays, feeds: list[Arrays], first: int) -> list[dict[str, Any]]:
    adapter.load(weights)
    adapter.restart()
    steps = []
    for step, feed in enumerate(feeds, first):
        told = adapter.train_step(feed, step=step) or {}
        steps.append({"told": {k: float(v) for k, v in told.items()}, "weights": _copies(adapter.weights())})
    return steps


def _course(adapter: Any, weights: Arrays, feeds: list[Arrays], first: int) -> list[float | None]:
    """The losses that the side's own steps tell."""
    adapter.load(weights)
    adapter.restart()
    losses: list[float | None] = []
    for step, feed in enumerate(feeds, first):
        loss = (adapter.train_step(feed, step=step) or {}).get("loss")
        losses.append(None if loss is None else float(loss))
    return losses


def _evaluated(adapter: Any, weights: Arrays, feeds: list[Arrays], batches: list[Arrays], first: int) -> dict[str, Any]:
    """Steps, then evaluations: what they tell, logits, the weights after each step and after all."""
    adapter.load(weights)
    loaded, states = _copies(adapter.weights()), []
    if feeds:
        adapter.restart()
    for step, feed in enumerate(feeds, first):
        adapter.train_step(feed, step=step)
        states.append(_copies(adapter.weights()))
    has = _describe(adapter)["capabilities"]
    told = None
    if "evaluate" in has:
        told = [{name: float(value) for name, value in adapter.evaluate(batches).items()} for _ in range(2)]
    logits = [_outputs(adapter.forward(batch, training=False)) for batch in batches] if "forward" in has else []
    return {"loaded": loaded, "states": states, "told": told, "logits": logits, "left": _copies(adapter.weights())}


def _copies(weights: Arrays) -> Arrays:
    """Frameworks may hand out views of what the next step overwrites."""
    return {name: np.array(value) for name, value in weights.items()}


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "describe": _describe,
    "encode": _encode,
    "examples": lambda adapter, documents, epoch: dict(adapter.examples(documents, epoch=epoch)),
    "stream": lambda adapter, documents, start, stop: dict(adapter.stream(documents, start=start, stop=stop)),
    "validation": lambda adapter, documents: dict(adapter.validation(documents)),
    "weights": _weights,
    "initial": lambda adapter: dict(adapter.initial()),
    "roundtrip": _roundtrip,
    "forward": _forward,
    "measure": lambda adapter, outputs, feed: {k: float(v) for k, v in adapter.measure(outputs, feed).items()},
    "gradients": _gradients,
    "reported_loss": _reported_loss,
    "updates": _updates,
    "learning_rates": lambda adapter, start, stop: [float(rate) for rate in adapter.learning_rates(start, stop)],
    "resumed": _resumed,
    "train": _train,
    "course": _course,
    "evaluated": _evaluated,
    # lossary's own sides alone: courses at several rates; a run goes on from a checkpoint, on its own batches.
    "courses": lambda adapter, **request: adapter.courses(**request),
    "branch": lambda adapter, **request: adapter.branch(**request),
    "checkpoint": lambda adapter: dict(adapter.checkpoint()),
}


if __name__ == "__main__":
    main()
