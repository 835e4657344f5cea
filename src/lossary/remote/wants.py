"""Which files of a study a command is given at once: all small ones, and of the large ones those that it may read."""

from enum import Enum

from lossary.remote.manifests import Stored

__all__ = ["Wants"]

_SMALL_BYTES = 1 << 20
# What tables, examples and findings are made of.
_OF_TABLES = frozenset({"tokenizer", "validation", "views", "runs", "report", "diagnosis"})
_OF_THE_PAST = frozenset({"generations", "removed"})


class Wants(Enum):
    """What a command reads."""

    TABLES = "numbers and validation examples"
    SCORING = "and checkpoints"
    WORK = "and shards, and what else lies in the folder"
    ALL = "and what was before"

    def takes(self, path: str, stored: Stored) -> bool:
        """Whether a file is brought."""
        top, slash, _ = path.partition("/")
        if self is Wants.ALL or stored.bytes <= _SMALL_BYTES or not slash:
            return True
        if top in _OF_THE_PAST:
            return False
        if self is Wants.WORK:
            return True
        return top in _OF_TABLES and (self is Wants.SCORING or "/checkpoints/" not in path)
