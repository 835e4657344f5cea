"""HTTP connections that cannot be used up: who opens one and says nothing, or little, or does not listen, loses it.

A connection that answers nothing has ten seconds for the whole head of its next request, however it trickles; an answer
that is not fetched is given up when nothing of it left for as long. Of more connections than there may be, the one that
waits longest goes, so that an ordinary visitor is always let in.
"""

import asyncio
import math
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["KEEP_ALIVE_S", "MOST", "BoundedProtocol"]

MOST = 128
WAIT_S = 10.0
# Shorter than the wait: who comes back after it has time for a head.
KEEP_ALIVE_S = 5


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with time-outs of its own where uvicorn has none."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._unsent = math.inf

    @property
    def is_waiting(self) -> bool:
        """Whether there is no request to be answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()
        known = [one for one in self.connections if isinstance(one, BoundedProtocol)]
        still_open = [one for one in known if not one.transport.is_closing()]
        if len(still_open) > MOST:
            min((one for one in still_open if one.is_waiting), key=lambda one: one._since).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        """Time runs while a request is waited for; what arrives meanwhile does not stop it."""
        if not self.is_waiting:
            self._rest()
        elif self._timer is None:
            self._since = self.loop.time()
            self._unsent = math.inf
            self._timer = self.loop.call_later(WAIT_S, self._late)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if 0 < unsent < self._unsent:
            # An answer on its way over a slow line.
            self._unsent = unsent
            self._timer = self.loop.call_later(WAIT_S, self._late)
        else:
            self.transport.abort()
