"""The chart engine: Vega, Vega-Lite and vega-embed as one script, that of vl-convert.

It stands in the page once, compressed, and is unpacked by the page's own script when the first chart is needed; the
page's policy knows the digest of what comes out, so that nothing else can. Making the bundle takes seconds, so that it
is kept in the user's cache (`$XDG_CACHE_HOME/lossary`), by vl-convert's version.
"""

import base64
import gzip
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lossary.files import write_atomic

__all__ = ["Engine", "chart_engine"]


class Engine(NamedTuple):
    """The script, and the same compressed (gzip) as base64."""

    script: str
    packed: str


def chart_engine() -> Engine:
    """The engine, from the cache or made anew."""
    path = _cached_path()
    data = b""
    with suppress(OSError):
        data = path.read_bytes()
    try:
        script = gzip.decompress(data).decode()
    except (OSError, EOFError, ValueError):
        script = ""
    if not script:
        import vl_convert

        script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
        data = gzip.compress(script.encode(), compresslevel=9, mtime=0)
        # Without a cache, as in a read-only home, the next page takes longer; nothing else changes.
        with suppress(OSError), write_atomic(path) as temporary:
            temporary.write_bytes(data)
    return Engine(script, base64.b64encode(data).decode())


def _cached_path() -> Path:
    from importlib.metadata import version

    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "lossary" / f"vega-{version('vl-convert-python')}.js.gz"
