"""Where errors of a command end: each is one message on standard error and an exit code, and none is a traceback."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from lossary.errors import Interrupted, UsageError
from lossary.failures import STREAMS, explain, internal

__all__ = ["Verbs", "guarded", "say_instead"]

# What is printed in the place of what: a URL for the folder of this machine that stands for it.
_instead: dict[str, str] = {}


def say_instead(found: str, told: str) -> None:
    """From now on prints `told` where `found` would be."""
    _instead[found] = told


class Verbs(TyperGroup):
    """The verbs; what they raise is translated before typer makes exit codes of its own of it."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        with _translated():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        with _translated():
            return super().invoke(ctx)


class _Stream(io.TextIOWrapper):
    """Standard output or standard error, whose errors say that they are its own."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(
            stream.buffer, encoding=stream.encoding, errors=stream.errors, line_buffering=bool(stream.line_buffering)
        )
        self._title = STREAMS.get(self.fileno(), self.name)

    def write(self, text: str, /) -> int:
        with self._named():
            for found, told in _instead.items():
                text = text.replace(found, told)
            return super().write(text)

    def flush(self) -> None:
        with self._named():
            super().flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = self._title
            raise


class _ReaderLeft(Exception):
    """The reader of our output went away (`lossary show | head`): nothing is wrong."""


def guarded(command: Callable[[], object]) -> int:
    """Runs the command line; returns the exit code, once all is said that is to be said."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # Python has None for a stream that was closed before it started (`lossary show >&-`).
        setattr(sys, name, open(os.devnull, "w") if stream is None else _Stream(stream))  # noqa: SIM115
    code: object = 0
    try:
        with _translated():
            try:
                command()
            except SystemExit as end:
                code = end.code
            sys.stdout.flush()
    except _ReaderLeft:
        code = 0
    except Exception as error:
        told = explain(error) or internal(error)
        code = told.exit_code
        with suppress(OSError):
            sys.stderr.write(f"lossary: {told}\n")
    for stream in (sys.stdout, sys.stderr):
        _let_go(stream)
    return code if isinstance(code, int) else int(code is not None)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted") from error
    except typer.BadParameter as error:
        raise _refused_value(error) or error from error
    except BrokenPipeError as error:
        if error.filename == STREAMS[1]:
            raise _ReaderLeft from error
        raise explain(error) or error from error
    except OSError as error:
        raise explain(error) or error from error


def _refused_value(error: typer.BadParameter) -> UsageError | None:
    """A value that an option does not take, in our words; None where typer says more than that."""
    details = getattr(error.__cause__, "errors", None)
    options = getattr(error.param, "opts", None)
    if details is None or not options:
        return None
    [found, *_] = details()
    limits = found.get("ctx", {})
    expected = {
        "int_parsing": "a whole number",
        "int_from_float": "a whole number",
        "float_parsing": "a number",
        "bool_parsing": "yes or no",
        "greater_than_equal": f"{limits.get('ge')} or more",
        "greater_than": f"more than {limits.get('gt')}",
        "less_than_equal": f"{limits.get('le')} or less",
        "less_than": f"less than {limits.get('lt')}",
    }.get(found["type"])
    if expected is None:
        said = str(found["msg"]).removeprefix("Value error, ").rstrip(".")
        return UsageError(said, where=options[0])
    return UsageError(f"{str(found['input'])!r} is not what it takes", where=options[0], hint=f"Expected {expected}.")


def _let_go(stream: TextIO) -> None:
    """What a stream could not take is dropped: Python would complain of it at exit, with a code of its own."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
