"""The `lossary` command: puts the verbs together and turns errors into messages and exit codes."""

import signal
import sys
from typing import Annotated

import typer

from lossary.cli.add import add
from lossary.cli.boundary import Verbs, guarded
from lossary.cli.check import check
from lossary.cli.compare import compare
from lossary.cli.convert import convert
from lossary.cli.demo import demo
from lossary.cli.diagnose import diagnose
from lossary.cli.evaluate import evaluate
from lossary.cli.examples import examples
from lossary.cli.export import export
from lossary.cli.import_ import import_
from lossary.cli.init import init
from lossary.cli.mixture import mixture
from lossary.cli.mv import mv
from lossary.cli.plan import plan
from lossary.cli.prepare import prepare
from lossary.cli.pull import pull
from lossary.cli.push import push
from lossary.cli.rank import rank
from lossary.cli.report import report
from lossary.cli.rm import rm
from lossary.cli.run import run
from lossary.cli.serve import serve
from lossary.cli.show import show
from lossary.cli.status import status
from lossary.cli.train import train
from lossary.cli.verify import verify
from lossary.cli.watch import watch

__all__ = ["app", "main"]

app = typer.Typer(
    name="lossary",
    cls=Verbs,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for verb in (
    demo,
    init,
    plan,
    run,
    prepare,
    train,
    evaluate,
    status,
    watch,
    show,
    compare,
    rank,
    mixture,
    check,
    diagnose,
    examples,
    report,
    serve,
    export,
    verify,
    convert,
    add,
    mv,
    rm,
    push,
    pull,
):
    app.command()(verb)
# A keyword of Python cannot be the name of a function.
app.command("import")(import_)


def _print_version(wanted: bool) -> None:
    if wanted:
        from lossary.version import __version__

        typer.echo(f"lossary {__version__}")
        raise typer.Exit


@app.callback()
def lossary(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What each dataset costs a masked language model, in each framework and size.

    A study file names datasets, a validation set, a recipe and runs; `lossary run` makes the table from them.
    Every verb takes a study: its file, the folder that holds study.toml, or its URL on an object store; the current
    folder if none is named.

    Exit codes: 0 fine, 1 findings, 2 usage, 3 missing or damaged data, a failed run or a machine that refused,
    70 a mistake of lossary's own, 75 another process works on it, 130 interrupted.
    """
    del version


def main() -> None:
    """Entry point of the `lossary` command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(guarded(app))
