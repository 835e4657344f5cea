"""A process that has imported frameworks and forks for every side: python warm.py torch transformers

One side at a time: it takes over standard input and output until it is told to close.
"""

import importlib
import json
import os
import sys
from typing import Any

from lossary.diagnosis.job import answer, load_adapter, setup_of
from lossary.errors import LossaryError


def main() -> None:
    """Reads jobs, one a line; answers as a worker of a side does."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(event: dict[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    for name in sys.argv[1:]:
        importlib.import_module(name)
    say({"event": "warm"})
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _serve(json.loads(line), say)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        say({"event": "closed"} if status == 0 else {"event": "error", "message": f"the side died: {status}"})


def _serve(job: dict[str, Any], say: Any) -> None:
    try:
        adapter = load_adapter(job["side"], setup_of(job["setup"]))
    except LossaryError as error:
        say({"event": "error", "message": f"{error.message} {error.hint or ''}"})
        return
    say({"event": "ready"})
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        if "close" in request:
            return
        say(answer(adapter, request))


if __name__ == "__main__":
    main()
