"""What a reader sees at the widths of a telephone, a tablet and a desk, light and dark: marks, losses, labels."""

from collections.abc import Callable
from typing import Any

import pytest

from .studies import LONG_NAMES
from .visits import Open

WIDTHS = (390, 820, 1440)
PAGES = ("plain/", "plain/run?name=run_01", "plain/dataset?name=dataset_001", "plain/compare", "plain/curves")

# Swatches that show nothing: their mark is not in the page, or has no size.
_EMPTY = """() => [...document.querySelectorAll('.swatch use')].filter((use) => {
  const mark = document.getElementById(use.getAttribute('href').slice(1));
  return !mark || !mark.querySelector('path')?.getAttribute('d');
}).length"""
_MARKS = "() => [...document.querySelectorAll('symbol')].map((mark) => [mark.id, mark.innerHTML])"
# Tables that are wider than their place and do not say so, and those that say so and are not.
_UNSAID = """() => [...document.querySelectorAll('.scroll')].filter((part) => {
  const folded = [...document.querySelectorAll('details:not([open])')].some((details) => details.contains(part));
  const more = part.parentElement.querySelector(':scope > .more-columns');
  const wide = part.scrollWidth > part.clientWidth + 4;
  return !folded && (wide !== part.classList.contains('cut') || (more && wide === more.hidden));
}).map((part) => part.getAttribute('aria-label'))"""
# By table: columns of losses of which a number is seen in the part that shows before anybody scrolls.
_SEEN = """() => [...document.querySelectorAll('table.losses')].filter((table) => table.offsetParent).map((table) => {
  const place = table.closest('.scroll').getBoundingClientRect();
  const first = table.querySelector('tbody th').getBoundingClientRect();
  return [...table.querySelectorAll('tbody tr:first-child a.n')].filter((number) => {
    const box = number.getBoundingClientRect();
    return box.width && box.left >= first.right - 1 && box.right <= place.right;
  }).length;
})"""
# Labels that a picture cuts off, with fonts wider than those it was made with.
_CUT = """() => [...document.querySelectorAll('.plot svg')].flatMap((picture) => {
  picture.style.fontFamily = 'Verdana, "DejaVu Sans", sans-serif';
  const whole = picture.getBoundingClientRect();
  return [...picture.querySelectorAll('text')].filter((text) => {
    const box = text.getBoundingClientRect();
    return box.left < whole.left - 1 || box.right > whole.right + 1;
  }).map((text) => text.textContent);
})"""

# Tables that scroll are read like others: no class of theirs means something else elsewhere.
_PALE = """() => [...document.querySelectorAll('.scroll')].filter((part) => {
  const colour = (element) => getComputedStyle(element).color;
  return colour(part.querySelector('table')) !== colour(document.body) || getComputedStyle(part).paddingLeft !== '0px';
}).map((part) => part.getAttribute('aria-label'))"""
# Heads of runs whose words reach into their neighbours.
_OVER = """() => [...document.querySelectorAll('th[data-run]')]
  .filter((head) => head.offsetParent && head.scrollWidth > head.clientWidth + 1).map((head) => head.textContent)"""
# Pictures whose letters are made smaller than they were drawn.
_SHRUNK = """() => [...document.querySelectorAll('figure[data-drawn=true] .plot svg')]
  .filter((picture) => picture.getBoundingClientRect().width < 0.97 * picture.viewBox.baseVal.width)
  .map((picture) => picture.closest('figure').id)"""
# The page that is open, in a bar that is wider than a telephone.
_HERE = """() => {
  const bar = document.querySelector('.top nav').getBoundingClientRect();
  const here = document.querySelector('.top nav [aria-current]').getBoundingClientRect();
  return here.left >= bar.left - 1 && here.right <= bar.right + 1;
}"""

# Names in the head and first column of tables of losses that are cut off.
_CUT_NAMES = """() => [...document.querySelectorAll('table.losses thead .run, table.losses tbody th')]
  .filter((name) => name.offsetParent && name.scrollWidth > name.clientWidth + 1).map((name) => name.textContent)"""
_LABELS = """() => [...document.querySelectorAll('#dots .plot svg')].map((picture) =>
  [...picture.querySelectorAll('text')].map((text) => text.textContent)
    .filter((text) => /[^-\\d.,\u2212 ]/.test(text)))"""


@pytest.fixture(params=["report", "dashboard"])
def see(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """Opens the report, or the pages of the dashboard, of the same study."""
    if request.param == "report":
        visit: Open = request.getfixturevalue("visit")
        return lambda **options: [visit("plain", **options)]
    look: Open = request.getfixturevalue("look")
    return lambda **options: [look(address, **options) for address in PAGES]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_marks_losses_and_more_columns_are_seen(see: Callable[..., list[Any]], width: int, scheme: str) -> None:
    for found in see(viewport={"width": width, "height": 850}, color_scheme=scheme):
        page = found.page
        page.wait_for_timeout(200)
        where = page.url
        assert page.evaluate("document.documentElement.scrollWidth") <= width, where
        assert page.evaluate(_EMPTY) == 0, where
        assert page.evaluate(_UNSAID) == [], where
        assert page.evaluate(_PALE) == [], where
        assert page.evaluate(_OVER) == [], where
        assert all(page.evaluate(_SEEN)), where


def test_report_and_dashboard_mark_runs_alike(visit: Open, look: Open) -> None:
    marks = visit("plain").page.evaluate(_MARKS)
    assert marks
    for address in PAGES[:3]:
        assert look(address).page.evaluate(_MARKS) == marks


@pytest.mark.parametrize("name", ["plain", "hostile", "wide"])
def test_no_label_of_a_static_picture_is_cut_by_a_wider_font(visit: Open, name: str) -> None:
    page = visit(name, java_script_enabled=True).page
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.evaluate(_CUT) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_head_of_a_section_is_not_under_the_bar(visit: Open, width: int) -> None:
    page = visit("plain", viewport={"width": width, "height": 850}).page
    for name in ("losses", "pairs", "curves", "examples", "provenance"):
        page.evaluate(f"location.hash = '{name}'")
        page.wait_for_timeout(900)
        top = page.locator(f"#{name} h2").bounding_box()["y"]
        bar = page.locator(".top").bounding_box()
        assert bar["y"] + bar["height"] <= top + 1, name


@pytest.mark.parametrize("width", WIDTHS)
def test_names_of_one_beginning_can_be_told_apart(visit: Open, width: int) -> None:
    found = visit("names", viewport={"width": width, "height": 850})
    page = found.page
    assert page.evaluate(_CUT_NAMES) == []
    assert all(page.evaluate(_SEEN))
    # The static picture, then the one that the engine draws.
    for _ in range(2):
        [labels] = page.evaluate(_LABELS)
        assert len(set(labels)) == len(labels) == len(LONG_NAMES) + 1
        found.drawn()


# Names that a narrow column breaks into pieces of a letter or two: many lines for few letters.
_BROKEN_NAMES = """() => [...document.querySelectorAll('th[scope="row"] .run')]
  .filter((name) => name.offsetParent && name.textContent.trim().length > 3
    && name.getBoundingClientRect().height > 20 * Math.max(2, name.textContent.trim().length / 5))
  .map((name) => name.textContent)"""


@pytest.mark.parametrize("width", WIDTHS)
def test_names_are_not_broken_letter_by_letter(visit: Open, width: int) -> None:
    page = visit("plain", viewport={"width": width, "height": 850}).page
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.evaluate(_BROKEN_NAMES) == []


@pytest.mark.parametrize("name", ["plain", "names", "several", "decided"])
def test_letters_of_charts_keep_their_size_on_a_telephone(visit: Open, name: str) -> None:
    found = visit(name, viewport={"width": 390, "height": 850})
    found.drawn()
    assert found.page.locator("figure[data-drawn=true]").count() > 2 or name == "names"
    assert found.page.evaluate(_SHRUNK) == []


@pytest.mark.parametrize("path", ["curves", "findings", "diagnosis", "run?name=run_01"])
def test_the_first_head_has_room_and_the_bar_shows_where_one_is(look: Open, path: str) -> None:
    page = look(f"plain/{path}", viewport={"width": 390, "height": 850}).page
    bar, head = page.locator(".top").bounding_box(), page.locator("main :is(h1, h2, .kind)").first.bounding_box()
    assert head["y"] >= bar["y"] + bar["height"] + 12
    assert page.locator(".top nav.cut").count() == 1
    if "?" not in path:
        assert page.evaluate(_HERE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_decisions_are_read_at_any_width(visit: Open, look: Open, width: int, scheme: str) -> None:
    for found in (
        visit("decided", viewport={"width": width, "height": 850}, color_scheme=scheme),
        look("decided/decide", viewport={"width": width, "height": 850}, color_scheme=scheme),
    ):
        found.drawn()
        section = found.page.locator("#decisions")
        for question in ("Which is best?", "does it differ?", "Which mixture?"):
            assert section.locator("h3", has_text=question).count() == 1
        assert section.locator("figure[data-drawn=true]").count() == 3
        assert section.get_by_text("20 of 60", exact=True).count() == 1
        assert found.page.evaluate(_CUT) == []
        assert found.page.evaluate(_UNSAID) == []
        assert found.barriers() == []


def test_a_study_without_decisions_has_no_such_section(visit: Open, look: Open) -> None:
    assert visit("bare").page.locator("#decisions, .top a[href='#decisions']").count() == 0
    assert look("bare/decide").page.locator("#nothing").count() == 1


def test_many_runs_at_work_do_not_push_the_losses_away(look: Open) -> None:
    page = look("wide/").page
    assert page.locator("#progress tbody tr").count() == 60
    assert page.locator("#losses").bounding_box()["y"] < 1000
