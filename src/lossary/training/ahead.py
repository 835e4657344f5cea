"""The batch of the next step, made while this one is computed."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from lossary.data.examples import Examples

__all__ = ["Ahead"]


class Ahead:
    """Batches by step, as `make` gives them; the one after each, up to the last of `steps`, is begun by a thread."""

    def __init__(self, make: Callable[[int], Examples], steps: int) -> None:
        self._make, self._steps = make, steps
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="next batch")
        self._next: tuple[int, Future[Examples]] | None = None

    def batch(self, step: int) -> Examples:
        """The batch of a step. Raises what making it raised."""
        begun, self._next = self._next, None
        # A step that nobody expected waits for the thread, too: one batch is made at a time.
        found = begun[1] if begun is not None and begun[0] == step else self._pool.submit(self._make, step)
        batch = found.result()
        if step + 1 < self._steps:
            self._next = step + 1, self._pool.submit(self._make, step + 1)
        return batch
