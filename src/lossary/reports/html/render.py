"""Templates and assets: what is shown is escaped, always; what is trusted is read from this package only."""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from lossary.errors import MissingPackage

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["INSTALL", "asset", "environment", "require_packages"]

INSTALL = 'pip install "lossary[report]"'
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

    return Environment(
        loader=PackageLoader("lossary.reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def asset(name: str) -> str:
    """The text of a style sheet or script of this package."""
    return files("lossary.reports.html").joinpath("assets", name).read_text(encoding="utf-8")
