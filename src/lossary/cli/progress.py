"""What a user sees while a study is made: bars on a terminal, a line now and then when the output is piped.

A program that follows it is told in JSON.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from lossary.cli.common import Style
from lossary.failures import explain

__all__ = ["AnyListener", "JsonListener", "Listening", "TerminalListener", "listener_of"]

# A piped log should stay short: at most one line a stage in so many seconds.
_LINE_EVERY_S = 15.0


def listener_of(style: Style | None, *, quiet: bool) -> "AnyListener":
    """Who tells a user, or a program, what happens; None: bars on a terminal, else lines. Quiet: nothing but errors."""
    if style is Style.JSON and not quiet:
        return JsonListener(sys.stderr)
    return TerminalListener(style, quiet=quiet)


class _Console(Console):
    """Standard error. Who stops reading it does not stop the work."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class TerminalListener:
    """Shows the progress of a study on standard error, so that standard output holds the table alone.

    It listens to `lossary.pipeline`: `progress` tells of preparation, `event` of a run's worker.
    """

    def __init__(self, style: Style | None = None, *, quiet: bool = False) -> None:
        self.console = _Console(
            stderr=True, quiet=quiet, highlight=False, force_terminal=True if style is Style.BARS else None
        )
        self._has_bars = self.console.is_terminal and style in (None, Style.BARS)
        self._is_silent = style is Style.NONE
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[detail]}"))
        self._bars = Progress(*columns, console=self.console, disable=not self._has_bars)
        self._tasks: dict[str, TaskID] = {}
        self._last: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def progress(self, text: str, done: float, total: float | None) -> None:
        """Preparation came to `done` of `total` (None: not known)."""
        share = "" if not total else f"{min(1.0, done / total):4.0%}"
        self._show("prepare", done, total, f"{share} {text}".strip(), finished=total is not None and done >= total)

    def stage(self, name: str, text: str) -> None:
        """Work whose extent nobody knows came to something."""
        self._show(name, 0, None, text, finished=False)

    def event(self, run: str, event: Mapping[str, Any]) -> None:
        """A worker of `run` said something."""
        kind = event["event"]
        if kind == "note":
            self.note(f"{run}: {event['text']}")
        elif kind == "progress":
            done, total = _extent(event)
            self._show(run, done, total, _detail(event), finished=done >= total)

    def note(self, text: str) -> None:
        """A line that stays."""
        self.console.print(escape(text), soft_wrap=True)

    def _show(self, name: str, done: float, total: float | None, detail: str, *, finished: bool) -> None:
        if self._is_silent:
            return
        if self._has_bars:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(escape(name), total=total, detail="")
            self._bars.update(self._tasks[name], completed=done, total=total, detail=escape(detail))
            return
        now = time.monotonic()
        if finished or now - self._last.get(name, 0.0) >= _LINE_EVERY_S:
            self._last[name] = now
            self.note(f"{name}  {detail}")


class JsonListener:
    """Tells a program: an object a line on a stream, as `docs/operating.md` has it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._tell("done")
        elif (told := explain(error)) is not None:
            told_kind = type(told).__name__
            self._tell("error", kind=told_kind, message=told.message, where=told.where, hint=told.hint)
            # It is said; standard error holds nothing but objects.
            raise SystemExit(told.exit_code) from error

    def progress(self, text: str, done: float, total: float | None) -> None:
        """Preparation came to `done` of `total` (None: not known)."""
        self._tell("progress", stage="prepare", run=None, done=done, total=total, text=text)

    def stage(self, name: str, text: str) -> None:
        """Work whose extent nobody knows came to something."""
        self._tell("progress", stage=name, run=None, done=None, total=None, text=text)

    def event(self, run: str, event: Mapping[str, Any]) -> None:
        """A worker of `run` said something."""
        if event["event"] == "note":
            self._tell("note", run=run, text=event["text"])
        elif event["event"] == "progress":
            done, total = _extent(event)
            more = {key: event[key] for key in ("tokens_per_s", "eta_s", "loss") if key in event}
            stage = "train" if "step" in event else "evaluate"
            self._tell("progress", stage=stage, run=run, done=done, total=total, **more)

    def note(self, text: str) -> None:
        """Something worth knowing."""
        self._tell("note", run=None, text=text)

    def _tell(self, event: str, **fields: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"event": event, "time": now, **fields}, allow_nan=False)
        # Who stops reading does not stop the work.
        with self._lock, suppress(OSError):
            self._stream.write(line + "\n")
            self._stream.flush()


AnyListener = TerminalListener | JsonListener
Listening = Callable[[], AnyListener]


def _extent(event: Mapping[str, Any]) -> tuple[int, int]:
    if "step" in event:
        return int(event["step"]), int(event["steps"])
    return int(event["done"]), int(event["total"])


def _detail(event: Mapping[str, Any]) -> str:
    if "step" not in event:
        return f"scored {event['done']:,} of {event['total']:,} examples"
    parts = [f"step {event['step']:,} of {event['steps']:,}"]
    if event.get("tokens_per_s") is not None:
        parts.append(f"{event['tokens_per_s']:,.0f} tokens/s")
    if event.get("eta_s") is not None:
        minutes, seconds = divmod(round(event["eta_s"]), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    losses = [_losses(name, loss) for name, loss in event.get("loss", {}).items()]
    return "  ".join([*parts, *losses])


def _losses(dataset: str, loss: Mapping[str, float | None]) -> str:
    values = "/".join(f"{value:.2f}" for value in (loss.get("mlm"), loss.get("sop")) if value is not None)
    return f"{dataset} {values}"
