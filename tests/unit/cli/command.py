"""The command line as tests run it."""

import subprocess
import sys
from pathlib import Path

__all__ = ["lossary"]


def lossary(*arguments: str, cwd: Path | None = None, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs `python -m lossary`; a traceback is never what a user may see."""
    found = subprocess.run(
        [sys.executable, "-m", "lossary", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=cwd,
        check=False,
    )
    assert "Traceback" not in found.stderr, found.stderr
    return found
