"""Trains with the simple backend, and ends without a word at the n-th file that is renamed or removed.

    python -m tests.unit.training.killed STUDY MOMENTS

Prints a line for every moment, and how often an example was scored in all; each try is a fork of a process that has
imported everything and started no thread.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
from tests.unit.training.simple_backend import SimpleBackend

import lossary.training.loop as loop
from lossary import worker
from lossary.folder import StudyFolder
from lossary.scoring import score
from lossary.study_file import load_study

_KILLED = 17


def _train(root: Path, moment: int) -> None:
    """In a process of its own: trains, scores on the way; ends at a moment (0: never)."""
    pa.set_cpu_count(1)
    left = moment

    def counting(function: Any) -> Any:
        def counted(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(_KILLED)
            return function(*arguments, **more)

        return counted

    for module, name in ((os, "replace"), (os, "rename"), (os, "unlink"), (os, "rmdir")):
        setattr(module, name, counting(getattr(module, name)))
    loop.new_backend = lambda _, shape, **more: SimpleBackend(shape, **more)  # type: ignore[assignment]
    kept = score.write_score_windows

    def said(path: Path, *rest: Any) -> None:
        kept(path, *rest)
        with (root / "scored.txt").open("a") as file:
            file.write(f"{path.stem}\n")

    score.write_score_windows = said
    study, folder = load_study(root), StudyFolder(root)
    on_the_way = worker.ScoresOnTheWay(study, folder, "torch_a", score_last=True, emit=lambda _: None)
    loop.train(study, folder, "torch_a", on_the_way=on_the_way, emit=lambda _: None)


def _apart(root: Path, moment: int) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _train(root, moment)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(source: Path, every: int) -> None:
    """Kills at moment 1, 1 + every, … until a run comes to its end before its moment."""
    moment = 1
    while True:
        root = source.parent / f"at-{moment}"
        shutil.copytree(source, root)
        code = _apart(root, moment)
        assert code in (0, _KILLED), code
        again = _apart(root, 0)
        assert again == 0, again
        print(json.dumps({"moment": moment, "killed": code == _KILLED, "root": str(root)}), flush=True)
        if code == 0:
            return
        moment += every


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
