"""A study file, read and checked: what is wrong with it is one message with its place.

    study = load_study(Path("study.toml"))          # StudyError: study.toml: $.datasets.wiki.source

What its tables hold is `study.py`'s; what spans several of them (names, shares, starts) is checked here.
"""

import difflib
import re
import tomllib
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lossary.errors import StudyError, UsageError
from lossary.naming import STUDY_FILE, Names, names_of
from lossary.overrides import Override, override, parse_override
from lossary.study import Study

__all__ = ["can_be_name", "check_name", "check_study", "find_study_file", "load_study", "parse_study"]

_NAME = re.compile(r"[^\W_][\w.\-]{0,99}")


def find_study_file(path: Path) -> Path:
    """The study file that `path` means: itself, or `study.toml` in it if it is a folder."""
    file = path / "study.toml" if path.is_dir() else path
    if not file.is_file():
        raise StudyError(
            "no such study file",
            where=str(file),
            hint="`lossary init` writes one; every verb takes a study file or the folder that holds study.toml.",
        )
    return file


def load_study(path: Path, changes: Sequence[str] = ()) -> Study:
    """Reads and checks a study file, or the `study.toml` of a folder; `changes` as of `--set` override its keys.

    Raises StudyError: `where` is the file and the path in it (`study.toml: $.datasets.wiki.source`).
    """
    file = find_study_file(path)
    try:
        study = parse_study(file.read_text(encoding="utf-8-sig"), changes)
        if changes or file.name != STUDY_FILE:
            _check_renamed(study, names_of(file.resolve().parent))
        return study
    except UnicodeDecodeError as error:
        raise StudyError(f"not UTF-8 at byte {error.start}", where=str(file), hint="Save the file as UTF-8.") from None
    except StudyError as error:
        where = f"{file}: {error.where}" if error.where else str(file)
        hint = error.hint
        if file.suffix.lower() != ".toml" and error.where is None:
            hint = f"A study file, or the folder of a study or of imports, is expected: {file.parent}?"
        raise StudyError(error.message, where=where, hint=hint) from None


def _check_renamed(study: Study, names: Names) -> None:
    """Files are read by the names that study.toml in their folder gives: nothing else may rename."""
    for name, dataset in study.datasets.items():
        drawn = dataset.drawn_as or name
        if drawn != names.drawn_as(name):
            raise StudyError(
                f"{STUDY_FILE} does not say that dataset {name!r} is drawn as {drawn!r}",
                where=f"$.datasets.{name}.drawn_as",
                hint=f"drawn_as counts in a file called {STUDY_FILE} alone, and not with --set.",
            )


def parse_study(text: str, changes: Sequence[str] = ()) -> Study:
    """Checks the text of a study file, `changes` made. Raises UsageError where one of these is wrong."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"not TOML: {error}") from None
    except RecursionError:
        raise StudyError("not a study file: nested too deeply") from None
    overrides = [parse_override(change) for change in changes]
    try:
        return check_study(override(raw, overrides))
    except StudyError as error:
        raise _blame(error, overrides) from None


def check_study(raw: dict[str, Any]) -> Study:
    """Checks the tables of a study file."""
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        raise _study_error(error) from None
    _check_names(study)
    _check_references(study)
    _check_runs(study)
    return study


def _blame(error: StudyError, overrides: Sequence[Override]) -> UsageError:
    """An error of a key that a command sets says so, and not that the file is wrong."""
    where = error.where or "$"
    for change in overrides:
        path = _json_path(change.key)
        if where == path or where.startswith((f"{path}.", f"{path}[")):
            return UsageError(error.message, where=change.where, hint=error.hint)
        if path.startswith(f"{where}."):
            return StudyError(error.message, where=where, hint=f"With {change.where}. {error.hint or ''}".strip())
    return error


# Of kinds of error that pydantic tells in words of its own trade.
_SAID = dict.fromkeys(("byte_size", "byte_size_unit"), 'a size is expected, as "16GB"')


def _study_error(error: ValidationError) -> StudyError:
    # Of a union, the member that came furthest says most: $.validation.shares.wiki before $.validation.shares.
    details = sorted(error.errors(), key=lambda detail: (detail["type"] != "extra_forbidden", -len(detail["loc"])))
    told: dict[str, tuple[str, str | None]] = {}
    for detail in details:
        path = _json_path(detail["loc"])
        if not any(_is_inside(known, path) for known in told):
            told[path] = _said_of(detail)
    [(where, (message, hint)), *others] = told.items()
    more = [f"{path}: {said}" + (f". {tip}" if tip else "") for path, (said, tip) in others]
    if len(more) > _MOST_FAULTS:
        more[_MOST_FAULTS:] = [f"and {len(more) - _MOST_FAULTS} more"]
    return StudyError(message, where=where, hint="\n  ".join([*([hint] if hint else []), *more]) or None)


# Faults that are told beside the first one.
_MOST_FAULTS = 4


def _is_inside(path: str, other: str) -> bool:
    """Whether a path is another one, or leads further from there."""
    return path == other or path.startswith((f"{other}.", f"{other}["))


def _said_of(detail: ErrorDetails) -> tuple[str, str | None]:
    """What is wrong at one place, and what to do about it."""
    kind, said = detail["type"], detail["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return _unknown_key(detail)
    if kind == "missing":
        return f"{detail['loc'][-1]!r} is missing", None
    if kind == "value_error":
        return said, getattr(detail["ctx"]["error"], "hint", None)
    hint = None
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        near = difflib.get_close_matches(str(detail["input"]).lower(), allowed, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else None
    return f"{_SAID.get(kind, said)}; found {_shorten(detail['input'])}", hint


def _unknown_key(detail: ErrorDetails) -> tuple[str, str]:
    model = _model_at(detail["loc"][:-1])
    known = sorted(field.alias or name for name, field in model.model_fields.items())
    key = str(detail["loc"][-1])
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(known)}."
    return f"unknown key {key!r}", hint


def _model_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    """The table that stands at a location of the study file."""
    model: type[BaseModel] = Study
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            # A key of a dict of tables, or pydantic's own mark of which member of a union it tried.
            continue
        tables = [kind for kind in _types_in(field.annotation) if issubclass(kind, BaseModel)]
        if not tables:
            break
        model = tables[0]
    return model


def _types_in(annotation: Any) -> list[type]:
    arguments = get_args(annotation)
    if not arguments:
        return [annotation] if isinstance(annotation, type) else []
    return [kind for argument in arguments for kind in _types_in(argument)]


def _json_path(location: tuple[int | str, ...]) -> str:
    path = "$"
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif re.fullmatch(r"[\w\-]+", part) and part not in _UNION_MARKS:
            path += f".{part}"
        elif part not in _UNION_MARKS and not re.match(r"(literal|list|dict|function-)", part):
            path += f'["{part}"]'
    return path


_UNION_MARKS = frozenset({"ScaledSize", "str", "int", "float", "bool"})


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def can_be_name(name: str) -> bool:
    """Whether a name can be part of a path and of a series."""
    return bool(_NAME.fullmatch(name)) and not name.endswith(".")


def check_name(name: str, *, where: str) -> None:
    """Raises StudyError unless the name can be part of a path and of a series."""
    if not can_be_name(name):
        hint = "A name starts with a letter or digit; letters, digits, '_', '-' and '.' follow, at most 99."
        if _NAME.fullmatch(composed := unicodedata.normalize("NFC", name)):
            hint = f"Its accents are characters of their own (NFD); write {composed!r} with whole letters (NFC)."
        raise StudyError(f"the name {_shorten(name)} cannot be the name of a folder", where=where, hint=hint)


def _check_names(study: Study) -> None:
    for kind, names in (("datasets", study.datasets), ("runs", study.runs)):
        folded: dict[str, str] = {}
        for name in names:
            where = f"$.{kind}.{name}"
            check_name(name, where=f'$.{kind}["{name}"]')
            # Two names that differ in case only would share a folder on some file systems.
            other = folded.setdefault(name.casefold(), name)
            if other != name:
                raise StudyError(f"{name!r} and {other!r} differ in case only", where=where, hint="Rename one of them.")
    _check_drawn(study)


def _check_drawn(study: Study) -> None:
    """Every dataset has draws and files of its own."""
    holders: dict[str, str] = {}
    for name, dataset in study.datasets.items():
        drawn, where = dataset.drawn_as or name, f"$.datasets.{name}"
        check_name(drawn, where=f"{where}.drawn_as")
        other = holders.setdefault(drawn.casefold(), name)
        if other == name:
            continue
        renamed, same = (name, other) if dataset.drawn_as is not None else (other, name)
        raise StudyError(
            f"datasets {other!r} and {name!r} are both drawn as {drawn!r}, and share no draws and no files",
            where=f"$.datasets.{renamed}.drawn_as",
            hint=f"What was made as {drawn!r} belongs to one of them; "
            f'for a new {same!r} write drawn_as = "{same}-2" (or a name of your own) in [datasets.{same}].',
        )


def _check_references(study: Study) -> None:
    known = list(study.datasets)
    weights = [("$.validation.shares", study.validation.shares), ("$.mixture.shares", study.mixture.shares)]
    for where, shares in weights:
        if isinstance(shares, str):
            continue
        for name in shares:
            _check_dataset(name, known, f"{where}.{name}")
        missing = [name for name in known if name not in shares]
        if missing:
            raise StudyError(
                f"no share for {', '.join(missing)}",
                where=where,
                hint="Every dataset of the study needs a share; weights need not add up to 1.",
            )
    for run, settings in study.runs.items():
        for position, name in enumerate(settings.datasets or []):
            _check_dataset(name, known, f"$.runs.{run}.datasets[{position}]")
        if settings.datasets == []:
            raise StudyError(
                "no dataset is named", where=f"$.runs.{run}.datasets", hint="Leave the key out for all of them."
            )


def _check_start(study: Study, run: str) -> None:
    start, seen = study.runs[run].start, [run]
    while start is not None:
        where = f"$.runs.{run}.start.run"
        if start.run not in study.runs:
            near = difflib.get_close_matches(start.run, study.runs, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else f"Runs: {', '.join(study.runs)}."
            raise StudyError(f"no run is called {start.run!r}", where=where, hint=hint)
        if start.run in seen:
            raise StudyError("a run cannot start from itself", where=where)
        if start.step is not None and len(seen) == 1 and start.step >= study.recipe_of(run).steps:
            steps = study.recipe_of(run).steps
            raise StudyError(
                f"it starts at step {start.step:,} and has {steps:,} steps", where=f"$.runs.{run}.start.step"
            )
        seen.append(start.run)
        start = study.runs[start.run].start


def _check_dataset(name: str, known: list[str], where: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Datasets: {', '.join(known)}."
        raise StudyError(f"no dataset is called {name!r}", where=where, hint=hint)


def _check_runs(study: Study) -> None:
    for name in study.runs:
        try:
            study.recipe_of(name)
        except ValidationError as error:
            found = _study_error(error)
            raise StudyError(found.message, where=f"$.runs.{name}", hint=found.hint) from None
        recipe, ranks = study.recipe_of(name), study.runs[name].ranks
        if ranks > recipe.batch_size:
            raise StudyError(
                f"{ranks} ranks cannot share a batch of {recipe.batch_size} examples", where=f"$.runs.{name}.ranks"
            )
        best = recipe.keep_best
        if study.runs[name].model is not None and best is not None and best.startswith("sop"):
            raise StudyError(
                f"keep_best is {best!r}, and a model that is no ALBERT has no sentence-order head",
                where=f"$.runs.{name}",
                hint='keep_best = "mlm_loss".',
            )
    for name in study.runs:
        _check_start(study, name)
