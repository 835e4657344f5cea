"""What a user sees while a study is made: bars on a terminal, a line now and then when the output is piped."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

__all__ = ["TerminalListener"]

# A piped log should stay short: at most one line a stage in so many seconds.
_LINE_EVERY_S = 15.0


class TerminalListener:
    """Shows the progress of a study on standard error, so that standard output holds the table alone.

    It listens to `lossary.pipeline`: `progress` tells of preparation, `event` of a run's worker.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[detail]}"))
        self._bars = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
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
        if self.console.is_terminal:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(escape(name), total=total, detail="")
            self._bars.update(self._tasks[name], completed=done, total=total, detail=escape(detail))
            return
        now = time.monotonic()
        if finished or now - self._last.get(name, 0.0) >= _LINE_EVERY_S:
            self._last[name] = now
            self.note(f"{name}  {detail}")


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
