"""Whether a study is named by a path or by a URL, and which folder stands for the latter.

with local_study("s3://bucket/study", Use.READ, Wants.TABLES) as path: ...
"""

import atexit
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path

from lossary.errors import UsageError
from lossary.remote.cache import cache_folder
from lossary.remote.copies import working
from lossary.remote.readers import Following, reading
from lossary.remote.wants import Wants

__all__ = ["Use", "check_for_writing", "is_url", "local_study", "read_for_good"]

_URL = re.compile(r"[a-z][a-z0-9+.\-]+://", re.IGNORECASE)
_STUDY_FILE = "study.toml"


class Use(Enum):
    """What is done with a study."""

    READ = "read as it is now"
    FOLLOW = "read as it becomes"
    WRITE = "written"


def is_url(text: str) -> bool:
    """Whether a study is named by a URL."""
    return _URL.match(text) is not None


@contextmanager
def local_study(
    url: str, use: Use, wants: Wants, *, doing: str = "", note: Callable[[str], None] = lambda _: None
) -> Iterator[Path]:
    """The folder of this machine that stands for a study at a URL; of one that is written changes go there."""
    bare = url.rstrip("/").removesuffix(f"/{_STUDY_FILE}")
    if use is Use.WRITE:
        with working(bare, doing=doing, wants=wants, note=note) as root:
            yield root
    elif use is Use.FOLLOW:
        with Following(bare, wants) as root:
            yield root
    else:
        with reading(bare, wants) as root:
            yield root


_held = ExitStack()
atexit.register(_held.close)


def read_for_good(url: str) -> Path:
    """A folder with the newest state of a study, for as long as this process lasts."""
    return _held.enter_context(local_study(url, Use.READ, Wants.TABLES))


def check_for_writing(root: Path) -> None:
    """UsageError for a folder of a study that was opened at a URL for reading: what is written there would be lost."""
    place = root.resolve()
    if cache_folder() / "studies" in place.parents and place.parent.name == "read":
        raise UsageError(
            "this study was opened at a URL for reading",
            where=str(root),
            hint="`with lossary.working_copy(URL) as folder:` gives a folder whose changes go there.",
        )
