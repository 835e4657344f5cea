"""What stands beside the tables of an HTML page: its lines of text, by the line of the file that each begins on."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

__all__ = ["text_beside_tables"]

_BLOCKS = {"address", "article", "blockquote", "br", "dd", "div", "dl", "dt", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "ol", "p", "pre", "section", "ul"}  # fmt: skip  # noqa: E501
_UNSEEN = {"script", "style", "table", "title", "template", "svg"}


def text_beside_tables(text: str) -> Iterator[tuple[int, str]]:
    """The blocks of text outside tables and scripts, and of preformatted text its lines."""
    parser = _Blocks()
    parser.feed(text)
    parser.close()
    parser.end_block()
    yield from parser.blocks


class _Blocks(HTMLParser):
    """Blocks as they end; what an inline tag holds belongs to the block around it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[tuple[int, str]] = []
        self._parts: list[str] = []
        self._line = 0
        self._unseen = self._preformatted = 0

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in _UNSEEN
        self._preformatted += tag == "pre"
        if tag in _BLOCKS:
            self.end_block()

    def handle_endtag(self, tag: str) -> None:
        self._unseen = max(0, self._unseen - (tag in _UNSEEN))
        self._preformatted = max(0, self._preformatted - (tag == "pre"))
        if tag in _BLOCKS:
            self.end_block()

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        line = self.getpos()[0]
        if self._preformatted:
            self.blocks += [(line + at, part.strip()) for at, part in enumerate(data.split("\n")) if part.strip()]
        elif data.strip():
            self._line = self._line or line + data[: len(data) - len(data.lstrip())].count("\n")
            self._parts.append(data)
        else:
            self._parts.append(" ")

    def end_block(self) -> None:
        """Ends the block that is open."""
        said = re.sub(r"\s+", " ", "".join(self._parts)).strip()
        if said:
            self.blocks.append((self._line, said))
        self._parts, self._line = [], 0
