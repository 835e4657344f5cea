"""`lossary demo`: a whole study on text that every Python carries."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    what: Annotated[
        str, typer.Argument(help="`table`: three runs and their page; `why`: a script with a fault, and its cause.")
    ] = "table",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the study.", show_default="lossary-demo[-why]")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Runs at the same time.", show_default="3, or the cores")
    ] = None,
) -> None:
    """Train and score three small models and print their table; or find what is wrong with a script."""
    import os

    from lossary import pipeline
    from lossary.cli.common import open_study
    from lossary.cli.demo_why import demo_why
    from lossary.cli.progress import TerminalListener
    from lossary.errors import UsageError
    from lossary.files import write_atomic

    if what not in ("table", "why"):
        raise UsageError(f"no demo is called {what!r}", hint="There are `table` and `why`.")
    if what == "why":
        demo_why(out or Path("lossary-demo-why"))
        return
    out = out or Path("lossary-demo")
    text = files("lossary.cli").joinpath("demo.toml").read_text(encoding="utf-8")
    path = out / "study.toml"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise UsageError("the folder holds another study", where=str(path), hint="Choose another folder with --out.")
    if not path.is_file():
        with write_atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    opened = open_study(out)
    # Models this small use one core each best.
    settings = pipeline.Settings(jobs=jobs or min(3, os.cpu_count() or 1))
    with TerminalListener() as listener:
        page = pipeline.run_study(opened.study, opened.folder, settings=settings, listener=listener)
    typer.echo(page.terminal)
    typer.echo(f"wrote {page.path}; the study is {path}")
