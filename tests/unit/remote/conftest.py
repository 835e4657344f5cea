"""A store in memory, a cache of its own, and files that stand for a study's."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from lossary.remote.store import ObjectStore

URL = "memory://bucket/study"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ObjectStore, "pause_s", 0.0)
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield tmp_path / "cache" / "lossary"
    system.store.clear()
    system.pseudo_dirs[:] = [""]
