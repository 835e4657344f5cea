"""A side at work: it is asked in a process of its own, and its answers are kept as traces.

    with Session(spec, setup, folder) as side:
        side.ask("forward", feed=feed.arrays(), weights=weights, training=False, repeats=2)

The same question is asked once: the trace of an answer is named after the side and the question, so that a diagnosis
that is run again reads it, and whoever doubts a verdict can look at it. A trace that is damaged is asked for again.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from lossary.backends.process import converse
from lossary.diagnosis import traces
from lossary.diagnosis.adapter import Setup
from lossary.diagnosis.job import setup_value
from lossary.errors import DataError, UsageError
from lossary.files import digest_bytes, digest_json
from lossary.version import __version__

PACKAGE = Path(__file__).parents[1]

__all__ = ["Channel", "Launch", "NotCompared", "Session", "SideFailed", "SideSpec", "launch_process"]


class NotCompared(Exception):
    """The side cannot show something; the message says what would make it so."""


class SideFailed(NotCompared):
    """The side's own code raised an error when asked."""


@dataclass(frozen=True, kw_only=True)
class SideSpec:
    """What a side is: a user's adapter file, or lossary's backend at work on a recipe."""

    label: str  # as the user named it
    kind: str  # "adapter" or "backend"
    path: Path | None = None
    backend: str | None = None

    def value(self) -> dict[str, Any]:
        """As JSON, for the worker."""
        return {"kind": self.kind, "path": str(self.path) if self.path else None, "backend": self.backend}

    @cached_property
    def digest(self) -> str:
        """Changes when the side's code does: an adapter's file and the Python files beside it."""
        if self.path is None:
            return digest_json(self.value())
        files = sorted(self.path.parent.glob("*.py"))
        return digest_bytes(b"\0".join([str(self.path).encode(), *(file.read_bytes() for file in files)]))


@cache
def own_code() -> str:
    """Changes when lossary's code does: what a side is asked, and how, is part of its answer."""
    files = sorted(PACKAGE.rglob("*.py"))
    return digest_bytes(b"\0".join(part for file in files for part in (str(file).encode(), file.read_bytes())))


class Channel(Protocol):
    """A worker that answers requests."""

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]: ...
    def close(self) -> None: ...


Launch = Callable[[SideSpec, Setup, Path], Channel]


def launch_process(spec: SideSpec, setup: Setup, log: Path) -> Channel:
    """Starts the worker of a side."""
    return converse(
        "lossary.diagnosis.job",
        {"side": spec.value(), "setup": setup_value(setup)},
        backend=spec.backend,
        threads=setup.threads,
        log=log,
    )


class Session:
    """Asks one side; starts its process when the first question has no trace yet."""

    def __init__(self, spec: SideSpec, setup: Setup, folder: Path, *, launch: Launch = launch_process) -> None:
        self.spec = spec
        self.setup = setup
        self.cpu_s = 0.0
        self._folder = folder
        self._launch = launch
        self._channel: Channel | None = None
        self._key = digest_json([__version__, own_code(), spec.digest, setup_value(setup)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    @property
    def label(self) -> str:
        return self.spec.label

    @cached_property
    def description(self) -> dict[str, Any]:
        """Name, what it declares, capabilities, shapes of its weights."""
        found: dict[str, Any] = self.ask("describe")
        return found

    def sibling(self, setup: Setup, spec: SideSpec | None = None) -> "Session":
        """The same side, or another one, under another setup."""
        return Session(spec or self.spec, setup, self._folder, launch=self._launch)

    def check_shape(self) -> None:
        """UsageError if the side's weights show another vocabulary or width than it was asked for."""
        asked = self.setup.shape
        sizes = self.description["weights"] or {}
        words = sizes.get("albert.embeddings.word_embeddings.weight")
        hidden = sizes.get("albert.pooler.weight")
        if not words or not hidden or (words[0], hidden[0]) == (asked.vocabulary_size, asked.hidden_size):
            return
        raise UsageError(
            f"the model has {words[0]:,} pieces and is {hidden[0]:,} wide; "
            f"{asked.vocabulary_size:,} and {asked.hidden_size:,} are expected",
            where=str(self.spec.path or self.label),
            hint="Build the model from setup.shape, or name the run whose size it has with --like.",
        )

    def can(self, *methods: str) -> bool:
        """Whether the side has all of these methods."""
        return all(method in self.description["capabilities"] for method in methods)

    def need(self, *methods: str) -> None:
        """Raises NotCompared naming the methods that the side lacks."""
        missing = [method for method in methods if not self.can(method)]
        if missing:
            raise NotCompared(f"the adapter has no {', '.join(f'`{method}`' for method in missing)}")

    def ask(self, operation: str, *, attempt: int = 0, **arguments: Any) -> Any:
        """The side's answer; `attempt` tells equal questions apart that are asked more than once on purpose.

        Raises SideFailed with what its code raised, NotCompared if what it returned is no data.
        """
        question = traces.store(self._folder / "questions", arguments)
        name = digest_json([self._key, operation, question.stem, attempt]).removeprefix("blake2b:")[:24]
        path = self._folder / "answers" / f"{operation}-{name}.json"
        answer = _kept(path)
        if answer is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open().ask({"operation": operation, "arguments": str(question), "result": str(path)})
            answer = traces.load(path)
        self.cpu_s += answer["cpu_s"]
        if "raised" in answer:
            raise SideFailed(f"`{operation}` raised {answer['raised']} ({answer['at']})")
        return answer["value"]

    def _open(self) -> Channel:
        if self._channel is None:
            log = self._folder / "logs" / f"{self._key.removeprefix('blake2b:')[:16]}.log"
            started = time.process_time()
            self._channel = self._launch(self.spec, self.setup, log)
            self.cpu_s += time.process_time() - started
        return self._channel


def _kept(path: Path) -> Any:
    """An answer that was given before; None if there is none, or it is not what was written."""
    try:
        return traces.load(path) if path.is_file() else None
    except DataError:
        return None
