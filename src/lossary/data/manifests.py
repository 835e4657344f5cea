"""Manifests of prepared data: JSON that carries a digest of itself, so that a damaged number in it is found."""

from pathlib import Path
from typing import Any

from lossary.errors import DataError, ShardError
from lossary.files import digest_json, read_json, write_json

__all__ = ["MANIFEST", "SCHEMA", "read_manifest", "write_manifest"]

MANIFEST = "manifest.json"
# Earlier ones had no seal.
SCHEMA = 2


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Writes `manifest.json` with its seal, whole or not at all."""
    content = {"schema": SCHEMA, **content}
    write_json(folder / MANIFEST, content | {"seal": digest_json(content)})


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads `manifest.json` without its seal; ShardError if it is missing or not what was written."""
    path = folder / MANIFEST
    try:
        content: dict[str, Any] = read_json(path)
        seal = content.pop("seal", None)
        sealed = seal is not None or content.get("schema", 1) >= SCHEMA
    except (DataError, TypeError, AttributeError) as error:
        raise _damaged(path, getattr(error, "message", "no manifest")) from None
    if sealed and seal != digest_json(content):
        raise _damaged(path, "the file is not what was written")
    return content


def _damaged(path: Path, why: str) -> ShardError:
    hint = "Restore it from a copy. A folder below prepared/ may be deleted: `lossary prepare` makes it again."
    return ShardError(why, where=str(path), hint=hint)
