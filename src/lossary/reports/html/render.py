"""Templates and assets: what is shown is escaped, always; what is trusted is read from this package only."""

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from lossary.errors import MissingPackage

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["INSTALL", "asset", "breaks", "environment", "require_packages"]

INSTALL = 'pip install "lossary[report]"'
# Characters of a name that fits a column; where a longer one may go on in the next line.
_WHOLE = 14
_JOINT = re.compile(r"(?<=\w)([_/.:-]+)(?=\w)")
_PACKAGES = {"jinja2": "Jinja2", "altair": "altair", "vl_convert": "vl-convert-python"}


def require_packages() -> None:
    """Raises MissingPackage, naming all that a page needs and that are not installed."""
    from importlib.util import find_spec

    missing = [name for module, name in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise MissingPackage(f"pages need {', '.join(missing)}", hint=f"Install: {INSTALL}")


@cache
def environment() -> "Environment":
    """The templates of report and dashboard; an unknown variable is an error, not an empty string."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("lossary.reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["breaks"] = breaks
    return made


def breaks(name: str) -> "Markup":
    """A name that lines may break at its joints, as HTML: `a_long_name` is not cut within a word."""
    from markupsafe import Markup, escape

    parts = [name] if len(name) <= _WHOLE else _JOINT.sub(r"\1\n", name).split("\n")
    return Markup("<wbr>").join(escape(part) for part in parts)


@cache
def asset(name: str) -> str:
    """The text of a style sheet or script of this package."""
    return files("lossary.reports.html").joinpath("assets", name).read_text(encoding="utf-8")
