"""What tests of importers share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lossary.results.importers.maps import Maps, parse_maps
from lossary.results.importers.model import Imported
from lossary.results.importers.recognise import read_any


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Imported]:
    """Reads a file of a name and a text, with maps."""

    def read(name: str, text: str, *maps: str) -> Imported:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return read_any(path, parse_maps(maps) if maps else Maps())

    return read
