"""Bounded, least recently used, and nothing made twice at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lossary.dashboard.cache import Cache


def test_what_was_used_longest_ago_goes_first() -> None:
    cache: Cache[str] = Cache(10, len)
    for key in ("a", "b"):
        cache.get(key, lambda key=key: key * 4)
    cache.get("a", lambda: pytest.fail("it is there"))
    cache.get("c", lambda: "cccc")
    made: list[str] = []
    cache.get("b", lambda: made.append("b") or "bbbb")
    assert made == ["b"]
    assert cache.weight == 8


def test_what_is_too_heavy_is_not_kept() -> None:
    cache: Cache[str] = Cache(3, len)
    assert cache.get("a", lambda: "aaaa") == "aaaa"
    assert cache.weight == 0


def test_who_asks_meanwhile_gets_the_same_value() -> None:
    cache: Cache[object] = Cache(10)
    begun, go, made = threading.Event(), threading.Event(), []

    def make() -> object:
        begun.set()
        assert go.wait(10)
        made.append(object())
        return made[-1]

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(cache.get, "a", make)
        assert begun.wait(10)
        others = [pool.submit(cache.get, "a", make) for _ in range(3)]
        go.set()
        assert {id(future.result(10)) for future in (first, *others)} == {id(made[0])}
    assert len(made) == 1


def test_a_failure_is_told_and_not_kept() -> None:
    cache: Cache[int] = Cache(10)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 // 0)
    assert cache.get("a", lambda: 7) == 7
