"""A cache of bounded memory: what was used longest ago goes first; what is being made is not made twice."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

__all__ = ["Cache"]

V = TypeVar("V")


class Cache(Generic[V]):
    """Values by key, at most `limit` of weight together; a value that is heavier by itself is not kept."""

    def __init__(self, limit: int, weigh: Callable[[V], int] = lambda _: 1) -> None:
        self._limit = limit
        self._weigh = weigh
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._pending: dict[Hashable, Future[V]] = {}
        self.weight = 0

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of a key, made if it is not there; whoever asks meanwhile waits for the same one."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
            pending = self._pending.get(key)
            mine: Future[V] | None = None
            if pending is None:
                mine = self._pending[key] = Future()
        if mine is None:
            assert pending is not None
            return pending.result()
        try:
            value = make()
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(value)
            self._keep(key, value)
            return value
        finally:
            with self._lock:
                del self._pending[key]

    def _keep(self, key: Hashable, value: V) -> None:
        weight = self._weigh(value)
        if weight > self._limit:
            return
        with self._lock:
            self._values[key] = value, weight
            self.weight += weight
            while self.weight > self._limit:
                _, (_, freed) = self._values.popitem(last=False)
                self.weight -= freed
