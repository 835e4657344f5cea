"""The builtin mixture: text that every Python carries, so that a study runs without any file or network.

    names        name of a function or class, split into words, and the first line of its docstring
    docstrings   docstrings of the standard library: whole text, and its summary and body where it has both
    comments     comment blocks of two lines or more
    reference    the language reference (`pydoc_data.topics`)

It depends on the Python version; a study records the digest of what it got. A distribution may leave modules out:
what is there is used.
"""

import ast
import inspect
import re
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from lossary.errors import SourceError

__all__ = ["BUILTIN_FIELDS", "builtin_rows"]

BUILTIN_FIELDS: dict[str, tuple[str, ...]] = {
    "names": ("name", "summary"),
    "docstrings": ("text", "summary", "body"),
    "comments": ("text",),
    "reference": ("topic", "text"),
}
_FOREIGN = frozenset({"site-packages", "dist-packages", "__pycache__"})
_TESTS = frozenset({"test", "tests", "idle_test"})
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
Row = dict[str, str | None]


@lru_cache(maxsize=4)
def builtin_rows(name: str) -> tuple[Row, ...]:
    """The rows of a builtin dataset, in the order of files and lines."""
    rows = tuple(_READERS[name]())
    if not rows:
        raise SourceError(
            "this Python carries no text for it",
            where=f"builtin:{name}",
            hint="Some distributions leave the standard library's sources out; use another Python or your own text.",
        )
    return rows


def _sources(*, tests: bool) -> Iterator[bytes]:
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        folders = set(path.relative_to(library).parts)
        if not folders & _FOREIGN and (tests or not folders & _TESTS):
            yield path.read_bytes()


@lru_cache(maxsize=1)
def _documented() -> tuple[tuple[str | None, str], ...]:
    """Name (None of a module) and docstring of everything that has one, tests left out."""
    return tuple(_docstring_nodes())


def _docstring_nodes() -> Iterator[tuple[str | None, str]]:
    for source in _sources(tests=False):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue  # Templates and Python 2 code among the standard library's files.
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text and text.strip():
                    yield getattr(node, "name", None), text.strip()


def _names() -> Iterator[Row]:
    for name, text in _documented():
        words = " ".join(_WORDS.findall(name or "")).lower()
        if words:
            yield {"name": words, "summary": text.splitlines()[0]}


def _docstrings() -> Iterator[Row]:
    for _, text in _documented():
        summary, _, body = text.partition("\n")
        yield {"text": text, "summary": summary.strip(), "body": body.strip() or None}


def _comments() -> Iterator[Row]:
    for source in _sources(tests=True):
        block: list[str] = []
        last = -1
        try:
            for token in tokenize.tokenize(BytesIO(source).readline):
                if token.type != tokenize.COMMENT or token.line[: token.start[1]].strip():
                    continue
                if token.start[0] != last + 1:
                    yield from _block(block)
                    block = []
                block.append(token.string.lstrip("#!:").strip())
                last = token.start[0]
        except (tokenize.TokenError, SyntaxError, UnicodeDecodeError):
            pass  # The comments up to the broken place are good.
        yield from _block(block)


def _block(lines: list[str]) -> Iterator[Row]:
    lines = [line for line in lines if re.search(r"[^\W\d_]{2}", line)]
    if len(lines) >= 2:
        yield {"text": "\n".join(lines)}


def _reference() -> Iterator[Row]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return
    for topic in sorted(topics):
        yield {"topic": topic, "text": inspect.cleandoc(topics[topic])}


_READERS = {"names": _names, "docstrings": _docstrings, "comments": _comments, "reference": _reference}
