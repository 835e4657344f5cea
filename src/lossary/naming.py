"""What datasets are called now, and what they are drawn as.

Random draws, digests and files of a dataset go by the name that it had when they were made. The study file gives it
another one with `drawn_as`; whoever reads such files translates here, so that nothing that was made is touched.

    names = names_of(folder.root)          # [datasets.news] drawn_as = "wiki"
    names.drawn_as("news"), names.called("wiki")          # "wiki", "news"
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

__all__ = ["AS_DRAWN", "STUDY_FILE", "Names", "names_beside", "names_of"]

STUDY_FILE = "study.toml"
_REMEMBERED = 64
_REMOVED = " (removed)"


@dataclass(frozen=True)
class Names:
    """Present names of datasets that are drawn as something else; every other dataset is drawn as it is called."""

    drawn: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _present(self) -> dict[str, str]:
        return {drawn: name for name, drawn in self.drawn.items()}

    def drawn_as(self, name: str) -> str:
        """The name in draws, digests and files."""
        return self.drawn.get(name, name).removesuffix(_REMOVED)

    def called(self, drawn: str) -> str:
        """The present name. One that left the study keeps its own, unless another dataset has that now."""
        found = self._present.get(drawn)
        if found is None:
            return f"{drawn}{_REMOVED}" if drawn in self.drawn else drawn
        return found

    def told(self, text: str) -> str:
        """A note that was stored with the names of its time, by present ones."""
        if not self.drawn:
            return text
        words = "|".join(sorted(map(re.escape, self._present), key=len, reverse=True))
        return re.sub(rf"(?<![\w./\\-])(?:{words})(?![\w/\\-]|\.\w)", lambda found: self.called(found[0]), text)


AS_DRAWN = Names()


def names_of(root: Path) -> Names:
    """The names that the study file of a folder gives; where it cannot be read, whoever opens the study says so."""
    path = root / STUDY_FILE
    try:
        found = path.stat()
        return _read(path, (found.st_ino, found.st_mtime_ns, found.st_size))
    except (OSError, ValueError, RecursionError):
        return AS_DRAWN


def names_beside(path: Path) -> Names:
    """The names of the study that a file below `runs/` belongs to; those in the file itself anywhere else."""
    root = next((place.parent for place in path.absolute().parents if place.name == "runs"), None)
    return AS_DRAWN if root is None else names_of(root)


@lru_cache(maxsize=_REMEMBERED)
def _read(path: Path, _: tuple[int, int, int]) -> Names:
    tables = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("datasets")
    if not isinstance(tables, dict):
        return AS_DRAWN
    found = {name: table.get("drawn_as", name) for name, table in tables.items() if isinstance(table, dict)}
    return Names({name: drawn for name, drawn in found.items() if isinstance(drawn, str) and drawn != name})
