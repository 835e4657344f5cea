"""`lossary demo why`: a script with a fault, a table that goes wrong on one dataset, and the cause, confirmed."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from lossary.cli.common import OpenStudy
    from lossary.cli.progress import AnyListener, Listening

__all__ = ["demo_why"]

_FILES = ("study.toml", "trainer.py", "adapter.py")
_SCRIPT = "trainer"
# The builtin datasets as files, which a script of one's own can read, too.
_FIELDS = {"names": ("name", "summary"), "docstrings": ("text",), "comments": ("text",)}


def demo_why(out: Path, listening: "Listening") -> None:
    """Writes the study, trains both, prints table and diagnosis, writes the report."""
    from lossary import pipeline
    from lossary.cli.common import open_study
    from lossary.diagnosis.diagnose import Request, diagnose
    from lossary.findings.folder import check_table
    from lossary.reports.diagnosis import diagnosis_text, write_diagnosis
    from lossary.reports.page import write_report
    from lossary.reports.terminal import terminal_text
    from lossary.scoring.foreign import Foreign
    from lossary.tables.build import build_table
    from lossary.tables.load import OpenTable

    _write_files(out)
    opened = open_study(out)
    study, folder = opened
    cores = os.cpu_count() or 1
    with listening() as listener:
        listener.note(f"{out / 'trainer.py'} is the script; lossary trains the same recipe beside it")
        pipeline.prepare(study, folder, listener=listener)
        _together(
            lambda: pipeline.train(study, folder, threads=max(1, cores // 2), listener=listener),
            lambda: _train_script(opened, listener),
        )
        pipeline.evaluate(study, folder, listener=listener)
        foreign = Foreign(name=_SCRIPT, checkpoint=folder.root / "trained", backend="torch")
        pipeline.evaluate_foreign(folder, [foreign], listener=listener)
    opened_table = OpenTable(build_table(study, folder, base="reference_run"), study, folder)
    typer.echo(terminal_text(opened_table.table))
    request = Request(first=str(folder.root / "adapter.py"), second="reference_run", threads=cores)
    with listening() as listener:
        listener.note(shlex.join(["lossary", "diagnose", str(out / "adapter.py"), "reference_run", str(out)]))
        found = diagnose(study, folder, request)
    write_diagnosis(found, folder)
    typer.echo(diagnosis_text(found), nl=False)
    path = write_report(opened_table, check_table(opened_table, where=str(folder.root))).page
    typer.echo(f"wrote {path}; the line to mend is in {out / 'trainer.py'}")


def _write_files(out: Path) -> None:
    import orjson

    from lossary.data.builtin import builtin_rows
    from lossary.errors import UsageError
    from lossary.files import write_atomic

    package = files("lossary.cli").joinpath("why")
    texts = {name: package.joinpath(name).read_text(encoding="utf-8") for name in _FILES}
    if (out / "study.toml").is_file() and (out / "study.toml").read_text(encoding="utf-8") != texts["study.toml"]:
        raise UsageError("the folder holds another study", where=str(out), hint="Choose another folder with --out.")
    for name, text in texts.items():
        # A script that was mended since is the user's.
        if not (out / name).is_file():
            with write_atomic(out / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
    for name, fields in _FIELDS.items():
        path = out / "data" / f"{name}.jsonl"
        if not path.is_file():
            rows = [{field: row[field] for field in fields} for row in builtin_rows(name)]
            with write_atomic(path) as temporary:
                temporary.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows if all(row.values())))


def _together(*jobs: Callable[[], None]) -> None:
    with ThreadPoolExecutor(len(jobs)) as pool:
        for future in [pool.submit(job) for job in jobs]:
            future.result()


def _train_script(opened: "OpenStudy", listener: "AnyListener") -> None:
    """Runs the script as its author would; its checkpoint is kept."""
    from lossary.errors import RunError

    root = opened.folder.root
    target = root / "trained"
    if (target / "model.safetensors").is_file():
        return
    command = [sys.executable, str(root / "trainer.py"), str(root), str(target)]
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", env=environment
    ) as script:
        assert script.stdout is not None
        said = []
        for line in script.stdout:
            said.append(line.rstrip())
            if line.startswith("step "):
                listener.note(f"{_SCRIPT}: {line.rstrip()}")
    if script.returncode:
        raise RunError(f"trainer.py ended with code {script.returncode}: {said[-1] if said else ''}", where=str(root))
