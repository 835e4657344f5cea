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
import json
import os
import re
import sys
import sysconfig
import tokenize
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from lossary.errors import SourceError
from lossary.files import digest_json, is_kept, kept_in_cache

__all__ = ["BUILTIN_FIELDS", "builtin_rows", "is_at_hand"]

BUILTIN_FIELDS: dict[str, tuple[str, ...]] = {
    "names": ("name", "summary"),
    "docstrings": ("text", "summary", "body"),
    "comments": ("text",),
    "reference": ("topic", "text"),
}
_FOREIGN = frozenset({"site-packages", "dist-packages", "__pycache__"})
_TESTS = frozenset({"test", "tests", "idle_test"})
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Strings, so that no `#` in one is taken for a comment, and comments: what `tokenize` says, ten times as fast.
_STRING_OR_COMMENT = re.compile(
    r'''(?s)"""(?:[^"\\]|\\.|"(?!""))*"""|\'{3}(?:[^\'\\]|\\.|\'(?!\'\'))*\'{3}'''
    r"""|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'|(?P<comment>\#[^\n]*)"""
)
# Where the statements that a statement holds are; docstrings are in statements only.
_BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")
Row = dict[str, str | None]
# Of what is kept: another one as soon as other rows are read from the same files.
_READING = 1


@lru_cache(maxsize=4)
def builtin_rows(name: str) -> tuple[Row, ...]:
    """The rows of a builtin dataset, in the order of files and lines."""
    read = _READERS[name]
    # Reading takes seconds, but for the reference; what was read once is kept.
    rows = tuple(read() if read is _reference else json.loads(kept_in_cache(_kept_as(name), _encoded(read)).content))
    if not rows:
        raise SourceError(
            "this Python carries no text for it",
            where=f"builtin:{name}",
            hint="Some distributions leave the standard library's sources out; use another Python or your own text.",
        )
    return rows


def is_at_hand(name: str) -> bool:
    """Whether a builtin dataset is there without reading the standard library."""
    return _READERS[name] is _reference or is_kept(_kept_as(name))


def _kept_as(name: str) -> str:
    return f"builtin-{name}-{_library_digest()}.json.gz"


@lru_cache(maxsize=1)
def _library_digest() -> str:
    """Changes with this module, Python, and every file of the standard library."""
    # Asking the installation for it takes a while.
    from lossary.version import __version__

    files = [(str(path), (found := path.stat()).st_size, found.st_mtime_ns) for path in _files()]
    return digest_json([__version__, _READING, sys.version, files]).removeprefix("blake2b:")


def _encoded(read: Callable[[], Iterator[Row]]) -> Callable[[], bytes]:
    return lambda: json.dumps(list(read())).encode()


@lru_cache(maxsize=1)
def _files() -> tuple[Path, ...]:
    library = Path(sysconfig.get_path("stdlib"))
    found: list[Path] = []
    for folder, folders, names in os.walk(library):
        folders[:] = [name for name in folders if name not in _FOREIGN]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return tuple(sorted(found))


def _sources(*, tests: bool) -> Iterator[bytes]:
    library = Path(sysconfig.get_path("stdlib"))
    for path in _files():
        if tests or not _TESTS & set(path.relative_to(library).parts):
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
        for node in _statements(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text and text.strip():
                    yield getattr(node, "name", None), text.strip()


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """As `ast.walk`, without expressions."""
    waiting: deque[ast.AST] = deque([tree])
    while waiting:
        node = waiting.popleft()
        for block in _BLOCKS:
            inside = getattr(node, block, None)
            if isinstance(inside, list):
                waiting.extend(inside)
        yield node


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
        for block in _comment_blocks(source):
            lines = [line for line in block if re.search(r"[^\W\d_]{2}", line)]
            if len(lines) >= 2:
                yield {"text": "\n".join(lines)}


def _comment_blocks(source: bytes) -> Iterator[list[str]]:
    """The comments of consecutive lines that hold nothing else."""
    try:
        encoding, _ = tokenize.detect_encoding(BytesIO(source).readline)
        text = source.decode(encoding).replace("\r\n", "\n")
    except (SyntaxError, UnicodeDecodeError):
        return  # Written to be unreadable, as tests of Python itself are.
    block: list[str] = []
    last = -1
    for found in _STRING_OR_COMMENT.finditer(text):
        line = text.rfind("\n", 0, found.start()) + 1
        if found["comment"] is None or text[line : found.start()].strip():
            continue
        if line != last + 1:
            yield block
            block = []
        block.append(found["comment"].lstrip("#!:").strip())
        last = found.end()
    yield block


def _reference() -> Iterator[Row]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return
    for topic in sorted(topics):
        yield {"topic": topic, "text": inspect.cleandoc(topics[topic])}


_READERS = {"names": _names, "docstrings": _docstrings, "comments": _comments, "reference": _reference}
