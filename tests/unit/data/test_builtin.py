"""The builtin text, read by a regular expression and by statements: what `tokenize` and `ast` say, and faster."""

import ast
import tokenize
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossary.data import builtin

# Whatever lexers trip over, in pieces that are put together at random.
_PIECES = [
    *("# one\n", "# two\n", "  # inside\n", "#\n", "#!x\n", "\n", "    \n", "\r\n", "# end\r\n"),
    *('x = "# no"\n', "x = '\\'# no'\n", 'x = """# no\n# no\n"""\n', "x = r'\\\\'  # after\n", "'''\\'''# no\n'''\n"),
    *(
        "y = 1  # after code\n",
        "y = ''\n",
        'y = ""  # after\n',
        'f"{x!r:>10}"\n',
        'b"""\n#\n"""\n',
        "y = [\n# in\n# out\n]\n",
    ),
    *("x = '''a\"b'''\n", 'x = "a\'# no"\n', "x = 'a\\\n# no'\n", '"""a""b\\""" # no"""\n'),
]


def _as_tokenize_says(source: bytes) -> list[list[str]]:
    blocks: list[list[str]] = [[]]
    last = -1
    for token in tokenize.tokenize(BytesIO(source).readline):
        if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip():
            if token.start[0] != last + 1:
                blocks.append([])
            blocks[-1].append(token.string.lstrip("#!:").strip())
            last = token.start[0]
    return [block for block in blocks if block]


def _found(source: bytes) -> list[list[str]]:
    return [block for block in builtin._comment_blocks(source) if block]


@given(st.lists(st.sampled_from(_PIECES), max_size=12))
def test_comments_are_those_that_tokenize_sees(pieces: list[str]) -> None:
    source = "".join(pieces).encode()
    assert _found(source) == _as_tokenize_says(source)


@pytest.mark.parametrize("module", [ast, tokenize, pytest], ids=lambda module: str(module.__name__))
def test_real_modules_give_the_same_comments_and_docstrings(module: object) -> None:
    source = Path(str(module.__file__)).read_bytes()  # type: ignore[attr-defined]
    assert _found(source) == _as_tokenize_says(source)
    tree = ast.parse(source)
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    ours = [node for node in builtin._statements(tree) if isinstance(node, kinds)]
    assert ours == [node for node in ast.walk(tree) if isinstance(node, kinds)]


def test_statements_are_found_in_every_block_that_holds_some() -> None:
    tree = ast.parse(
        "def a():\n def b(): 0\nclass C:\n async def d(self): 0\nif 1:\n def e(): 0\nelse:\n def f(): 0\n"
        "try:\n def g(): 0\nexcept E:\n def h(): 0\nelse:\n def i(): 0\nfinally:\n def j(): 0\n"
        "match 1:\n case 1:\n  def k(): 0\nfor x in y:\n def l(): 0\nwith x:\n def m(): 0\nz = lambda: 0\n"
    )
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in builtin._statements(tree) if isinstance(node, kinds)]
    assert found == [node for node in ast.walk(tree) if isinstance(node, kinds)]
    assert len(found) == 13


def test_what_cannot_be_decoded_has_no_comments() -> None:
    assert _found(b"# coding: nonsense\n# x\n") == []
    assert _found(b"# \xff\n# x\n") == []


def test_what_is_kept_of_it_is_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(builtin, "_files", lambda: (Path(ast.__file__), Path(tokenize.__file__)))
    for cache in (builtin.builtin_rows, builtin._library_digest, builtin._documented):
        cache.cache_clear()
    try:
        assert not builtin.is_at_hand("names")
        read = builtin.builtin_rows("names")
        assert list(read) == list(builtin._names())
        assert builtin.is_at_hand("names")
        builtin.builtin_rows.cache_clear()
        monkeypatch.setattr(builtin, "_documented", lambda: pytest.fail("read again"))
        assert builtin.builtin_rows("names") == read
        # What is damaged there is made again.
        monkeypatch.undo()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        (kept,) = (tmp_path / "lossary").iterdir()
        whole = kept.read_bytes()
        kept.write_bytes(whole[:-9])
        monkeypatch.setattr(builtin, "_files", lambda: (Path(ast.__file__), Path(tokenize.__file__)))
        builtin.builtin_rows.cache_clear()
        assert builtin.builtin_rows("names") == read
        assert kept.read_bytes() == whole
    finally:
        for cache in (builtin.builtin_rows, builtin._library_digest, builtin._documented):
            getattr(cache, "cache_clear", lambda: None)()
