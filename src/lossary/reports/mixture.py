"""What shares do to losses, in a terminal and as JSON."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape

from lossary.reports.grids import titled_grid
from lossary.reports.text import TOTAL, metric_title, plain
from lossary.tables.mixture import Mixtures, ShareEffect

__all__ = ["effect_text", "mixture_value", "print_mixture"]

_MOST = 12
_KINDS = {"all": "all shares", "own": "its own share", None: ""}


def print_mixture(found: Mixtures, console: Console) -> None:
    """How well losses follow from shares, what a doubled share does, and what to run next."""
    title = f"{metric_title(found.metric)} by shares, {len(found.runs)} runs"
    headings = ("dataset", "follows from", "error on runs left out", "of their mean", "its share doubled, 95 % at once")
    grid = titled_grid(title, headings, right=headings[2:4])
    own: dict[str | None, ShareEffect] = {e.dataset: e for e in found.effects if e.share == e.dataset}
    for fitted in found.fits:
        name = fitted.dataset or (TOTAL if found.weighting == "validation_share" else "total macro")
        errors = ["—" if value is None else f"{value:.4f}" for value in (fitted.error, fitted.mean_error)]
        effect = own.get(fitted.dataset)
        said = fitted.reason or ("" if effect is None else effect_text(effect))
        grid.add_row(*(escape(plain(cell)) for cell in (name, _KINDS[fitted.kind], *errors, said)))
    console.print(grid)
    others = [effect for effect in found.effects if effect.shown and effect.share != effect.dataset]
    others.sort(key=lambda effect: -abs(effect.value))
    if others:
        console.print()
        more = titled_grid("Other shares, where the interval leaves out 0", ("loss of", "when doubled", "change"))
        for effect in others[:_MOST]:
            more.add_row(
                *(escape(plain(cell)) for cell in (effect.dataset or "total", effect.share, effect_text(effect)))
            )
        console.print(more)
        if len(others) > _MOST:
            console.print(f"and {len(others) - _MOST} more; --format json has all")
    for suggestion in found.suggestions:
        console.print()
        parts = [f"{plain(name)} {share:.3f}" for name, share in suggestion.shares.items() if share >= 0.0005]
        console.print(escape(f"next: {suggestion.why}"), style="bold", soft_wrap=True)
        console.print(escape(f"  {', '.join(parts)}"), soft_wrap=True)
        if suggestion.total is not None and suggestion.low is not None and suggestion.high is not None:
            bounds = f"[{suggestion.low:.4f}, {suggestion.high:.4f}]"
            console.print(escape(f"  expected total {suggestion.total:.4f} {bounds}"), soft_wrap=True)
    console.print()
    for note in found.notes:
        console.print(escape(f"note: {plain(note)}"), soft_wrap=True)


def effect_text(effect: ShareEffect) -> str:
    """A change with its interval."""
    return f"{effect.value:+.4f}  [{effect.low:+.4f}, {effect.high:+.4f}]"


def mixture_value(found: Mixtures) -> dict[str, Any]:
    """All of it as JSON."""
    return asdict(found)
