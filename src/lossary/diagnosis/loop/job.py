"""The worker that records a loop: `python -m lossary.diagnosis.loop.job JOB.json`.

The job names a script with a `Trainer`, or a function that returns one; what it prints goes to the log.
"""

import time
import traceback
from pathlib import Path
from typing import Any

from lossary.backends.process import Emit, worker_main
from lossary.diagnosis import traces
from lossary.diagnosis.scripts import load_script, place_of
from lossary.errors import LossaryError, UsageError

__all__ = ["main"]


def main() -> None:
    """Records what the job names."""
    worker_main(_work)


def _work(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    emit({"event": "loading"})
    from lossary.backends.torch.loop import record_loop

    trainer = _trainer(Path(job["script"]), job["name"])
    try:
        record = record_loop(trainer, steps=job["steps"])
    except LossaryError:
        raise
    except Exception as error:  # User code may raise anything.
        traceback.print_exc()
        raise UsageError(
            f"training fails: {type(error).__name__}: {error} ({place_of(error)})", where=job["script"]
        ) from None
    traces.write(Path(job["result"]), record)
    return {"cpu_s": time.process_time()}


def _trainer(script: Path, name: str) -> Any:
    """The Trainer that a script has under a name, or that the function of this name returns."""
    try:
        module = load_script(script)
        found = getattr(module, name, None)
        if callable(found):
            found = found()
    except LossaryError:
        raise
    except Exception as error:  # User code may raise anything.
        traceback.print_exc()
        raise UsageError(
            f"the script cannot be loaded: {type(error).__name__}: {error} ({place_of(error)})", where=str(script)
        ) from None
    if found is None:
        raise UsageError(
            f"there is nothing called `{name}`",
            where=str(script),
            hint=f"`{name}` is a Trainer of transformers, or a function without arguments that returns one.",
        )
    if not all(hasattr(found, part) for part in ("training_step", "args", "callback_handler", "model")):
        raise UsageError(
            f"`{name}` is a {type(found).__name__}, no Trainer of transformers",
            where=str(script),
            hint="Code of another kind is diagnosed through an adapter: docs/adapters.md.",
        )
    return found


if __name__ == "__main__":
    main()
