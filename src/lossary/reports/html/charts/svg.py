"""A static picture of a chart, for readers without JavaScript, for print and for Markdown.

What the renderer writes is parsed and written anew: only elements and attributes that a picture needs pass, coordinates
are rounded to a tenth of a pixel, and nothing that runs or loads can come of a name.
"""

import json
import re
from itertools import pairwise
from typing import Any
from unicodedata import east_asian_width as wide
from xml.etree import ElementTree

__all__ = ["file_svg", "inline_svg", "on_white"]

_SVG = "http://www.w3.org/2000/svg"
_INK = "#24292f"
_ELEMENTS = {"svg", "g", "path", "line", "rect", "text", "tspan", "circle"}
_KEPT = {
    *("width", "height", "viewBox", "transform", "d", "x", "y", "x1", "y1", "x2", "y2", "r", "cx", "cy", "dx", "dy"),
    *("fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "opacity"),
    *("text-anchor", "font-size", "font-weight", "clip-path"),
}
_DEFAULTS = {
    ("opacity", "1"),
    ("stroke-opacity", "1"),
    ("fill-opacity", "1"),
    ("stroke-width", "1"),
    ("font-size", "11px"),
}
_INHERITED = ("fill", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray", "text-anchor", "font-size")
_GEOMETRY = {"d", "transform", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "dx", "dy"}
_POLYLINE = re.compile(r"M[-\d.,]+(L[-\d.,]+){3,}")
_TRANSLATE = re.compile(r"translate\((-?[\d.]+)")
# Widths of a character, in font sizes: of the widest sans-serifs, and of East Asian ones.
_WIDTH, _WIDE = 0.68, 1.05
_LONG = re.compile(r"-?\d+\.\d+(e-?\d+)?")


def inline_svg(spec: dict[str, Any]) -> str:
    """A picture to stand in HTML: in the colour of text, without a name space."""
    import vl_convert

    root = ElementTree.fromstring(vl_convert.vegalite_to_svg(spec))
    slim = _slim(root)
    if slim is None:
        return ""
    slim.attrib.pop("fill", None)
    make_room(slim)
    slim.set("aria-hidden", "true")
    slim.set("focusable", "false")
    return ElementTree.tostring(slim, encoding="unicode", short_empty_elements=True)


def file_svg(spec: dict[str, Any]) -> str:
    """A picture to stand in a file of its own: on white, in a dark grey."""
    head, _, rest = inline_svg(on_white(spec)).partition(">")
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return f'{head} xmlns="{_SVG}" font-family="sans-serif" font-size="11">{ground}{rest}'


def on_white(spec: dict[str, Any]) -> dict[str, Any]:
    """The specification in a dark grey instead of the colour of a page's text, of which a file knows nothing."""
    found: dict[str, Any] = json.loads(json.dumps(spec).replace('"currentColor"', f'"{_INK}"'))
    return found | {"background": "#ffffff"}


def _reach(element: ElementTree.Element, x: float, size: float, anchor: str) -> tuple[float, float]:
    """How far texts reach to the left and to the right, by a font as wide as any; turned ones are left out."""
    transform = element.get("transform", "")
    moved = _TRANSLATE.match(transform)
    x += float(moved[1]) if moved else 0.0
    size = float(element.get("font-size", f"{size}px").removesuffix("px"))
    anchor = element.get("text-anchor", anchor)
    low, high = float("inf"), float("-inf")
    if element.tag == "text" and "rotate" not in transform:
        width = size * sum(_WIDE if wide(character) in "WF" else _WIDTH for character in element.text or "")
        start = x + float(element.get("x", 0)) - {"end": width, "middle": width / 2}.get(anchor, 0.0)
        low, high = start, start + width
    for child in element:
        of_child = _reach(child, x, size, anchor)
        low, high = min(low, of_child[0]), max(high, of_child[1])
    return low, high


def make_room(root: ElementTree.Element) -> None:
    """Widens a picture until no label can be cut: whoever shows it may have wider fonts than whoever made it."""
    left, top, width, height = map(float, root.get("viewBox", "0 0 0 0").replace(",", " ").split())
    low, high = _reach(root, 0.0, 11.0, "start")
    start, end = min(left, low), max(left + width, high)
    if width and (start < left or end > left + width):
        root.set("viewBox", " ".join(_LONG.sub(_rounded, str(n)) for n in (start, top, end - start, height)))
        root.set("width", _LONG.sub(_rounded, str(end - start)))


def _slim(element: ElementTree.Element) -> ElementTree.Element | None:
    """The element with what a picture needs of it; None where nothing would be seen."""
    tag = element.tag.removeprefix(f"{{{_SVG}}}")
    if tag not in _ELEMENTS or element.get("display") == "none":
        return None
    kept = ElementTree.Element(tag, _attributes(element))
    kept.text = element.text if tag in ("text", "tspan") else None
    for child in element:
        found = _slim(child)
        if found is not None:
            kept.append(found)
    if tag == "g" and not len(kept):
        return None
    if tag == "path" and not {"fill", "stroke"} & set(kept.keys()):
        return None
    if tag == "g":
        _hoist(kept)
    # A group that says nothing of its only child is left out.
    if tag == "g" and len(kept) == 1 and not kept.attrib:
        return kept[0]
    return kept


def _hoist(group: ElementTree.Element) -> None:
    """What all children of a group say alike is said once, by the group."""
    for name in _INHERITED:
        values = {child.get(name) for child in group}
        if len(values) == 1 and None not in values and len(group) > 1:
            group.set(name, values.pop() or "")
            for child in group:
                del child.attrib[name]


def _attributes(element: ElementTree.Element) -> dict[str, str]:
    found = {}
    for name, value in element.attrib.items():
        if name not in _KEPT or (name, value) in _DEFAULTS or (name, value) == ("transform", "translate(0,0)"):
            continue
        if name == "clip-path" or value == "transparent":
            continue
        if name == "d" and _POLYLINE.fullmatch(value):
            found[name] = _relative(value)
        else:
            found[name] = _LONG.sub(_rounded, value) if name in _GEOMETRY else value
    return found


def _rounded(match: re.Match[str]) -> str:
    text = f"{float(match[0]):.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _relative(path: str) -> str:
    """A line of many points as steps in tenths of a pixel: two thirds of the characters, and no error adds up."""
    points = [[round(10 * float(part)) for part in point.split(",")] for point in path[1:].split("L")]
    texts = [f"M{_tenths(points[0][0])},{_tenths(points[0][1])}l"]
    for (x0, y0), (x1, y1) in pairwise(points):
        texts.append(f"{_tenths(x1 - x0)},{_tenths(y1 - y0)} ")
    return "".join(texts).rstrip().replace(",-", "-").replace(" -", "-")


def _tenths(value: int) -> str:
    text = f"{value / 10:g}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
