"""Every option of every verb that takes a number or one of some words: what it does not take is told in one message."""

import enum
import types
import typing
from collections.abc import Iterator

import pytest
import typer

from lossary.cli.main import app
from lossary.errors import UsageError


def _kinds(hint: object) -> Iterator[type]:
    """The plain types that a hint is made of, `Annotated` and unions taken apart."""
    if typing.get_origin(hint) in (typing.Annotated, typing.Union, types.UnionType):
        for part in typing.get_args(hint):
            yield from _kinds(part)
    elif isinstance(hint, type):
        yield hint


def _options() -> Iterator[tuple[str, str]]:
    for verb, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        hints = typing.get_type_hints(command.callback.__wrapped__, include_extras=True)
        for parameter in command.params:
            kinds = set(_kinds(hints.get(parameter.name)))
            long = next((name for name in parameter.opts if name.startswith("--")), None)
            if long and str not in kinds and any(issubclass(kind, int | float | enum.Enum) for kind in kinds - {bool}):
                yield verb, long


_OPTIONS = sorted(set(_options()))


def test_there_are_such_options_of_many_verbs() -> None:
    assert len(_OPTIONS) > 20
    assert {("run", "--jobs"), ("plan", "--see"), ("run", "--engine")} <= set(_OPTIONS)


@pytest.mark.parametrize(("verb", "option"), _OPTIONS)
def test_a_value_that_an_option_does_not_take_is_told_in_one_message(verb: str, option: str) -> None:
    with pytest.raises(UsageError) as told:
        app([verb, option, "several"], standalone_mode=False)
    assert told.value.where == option
    assert "'several'" in told.value.message
    assert "Input should" not in str(told.value)
    assert told.value.exit_code == 2
