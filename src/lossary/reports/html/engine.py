"""The chart engine: Vega, Vega-Lite and vega-embed as one script, that of vl-convert.

It stands in the page once, compressed, and is unpacked by the page's own script when the first chart is needed; the
page's policy knows the digest of what comes out, so that nothing else can. Making the bundle takes seconds, so that it
is kept in the user's cache (`$XDG_CACHE_HOME/lossary`), by vl-convert's version.
"""

import base64
from typing import NamedTuple

from lossary.files import kept_in_cache

__all__ = ["Engine", "chart_engine"]


class Engine(NamedTuple):
    """The script, and the same compressed (gzip) as base64."""

    script: str
    packed: str


def chart_engine() -> Engine:
    """The engine, from the cache or made anew."""
    from importlib.metadata import version

    kept = kept_in_cache(f"vega-{version('vl-convert-python')}.js.gz", _bundle)
    return Engine(kept.content.decode(), base64.b64encode(kept.packed).decode())


def _bundle() -> bytes:
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).encode()
