"""Which importer reads a file: told by its content, not by its name, and beyond a banner of any length."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from lossary.errors import LossaryError, SourceError
from lossary.results.importers.aim import is_aim, read_aim
from lossary.results.importers.audit import remarks
from lossary.results.importers.collect import Collector
from lossary.results.importers.databases import open_database
from lossary.results.importers.drawn import read_aligned_grids, read_boxed_grids
from lossary.results.importers.example_scores import latest_of_each, runs_by_folder
from lossary.results.importers.folders import one_of_all
from lossary.results.importers.grids import (
    Grid,
    read_html_grids,
    read_markdown_grids,
)
from lossary.results.importers.harness_results import held_against_results
from lossary.results.importers.headers import joined_headers
from lossary.results.importers.inspect_logs import is_inspect, read_inspect
from lossary.results.importers.latex import has_latex_tables, read_latex_grids
from lossary.results.importers.linelogs import read_line_log
from lossary.results.importers.lines import python_value, read_json_text, read_text, without_long_lines
from lossary.results.importers.listing import files_of, newest_states
from lossary.results.importers.lists import read_list_grids
from lossary.results.importers.logrows import has_rows
from lossary.results.importers.maps import Maps
from lossary.results.importers.markup import as_html
from lossary.results.importers.mlflow import read_mlflow_files, read_mlflow_sqlite
from lossary.results.importers.model import Imported, noted
from lossary.results.importers.names import read_name
from lossary.results.importers.notebooks import is_notebook, read_notebook
from lossary.results.importers.orient import read_grids
from lossary.results.importers.pages import text_beside_tables
from lossary.results.importers.programs import (
    BLOCK,
    EVAL_RESULT,
    MEGATRON_EVAL,
    MEGATRON_TRAIN,
    NEMO,
    SRILM,
    read_blocks,
    read_eval_results,
    read_fairseq,
    read_megatron,
    read_nemo,
    read_srilm,
)
from lossary.results.importers.records import (
    are_sizes,
    by_rows,
    flat,
    gathered,
    grid_of_json,
    is_graph,
    is_history,
    is_records,
    objects_of,
    read_graph,
    read_history,
    read_json_lines,
    read_json_records,
    read_parquet,
)
from lossary.results.importers.samples import is_of_examples, is_samples, read_samples
from lossary.results.importers.series import (
    clearml_scalars,
    is_clearml,
    is_series_grid,
    kind_of_series,
    path_run,
    series_of_grid,
    with_runs,
)
from lossary.results.importers.sheets import read_csv_grid, read_excel_grids, tables_of, titled_header
from lossary.results.importers.tensorboard import event_files, looks_like_events, read_tensorboard
from lossary.results.importers.trackio import is_trackio, read_trackio
from lossary.results.importers.trainer import read_results_json, read_trainer_state
from lossary.results.importers.unread import unread_of, with_unread
from lossary.results.importers.wandb import looks_like_wandb, read_wandb_file

__all__ = ["KINDS", "read_any"]

KINDS = (
    "Markdown, CSV, HTML, LaTeX and Excel tables, tables of wikis and of plain text, notebooks, "
    "TensorBoard, MLflow (file store, SQLite), "
    "W&B (exports, run folders), Trackio, Aim, Parquet and JSON lines of records with a step, "
    "samples of lm-evaluation-harness, logs of Inspect, "
    "transformers' trainer_state.json, Keras' CSVLogger, Lightning's metrics.csv, "
    "logs of Megatron, NeMo, fairseq, OLMo, Composer, nanoGPT and BERT, "
    "and any log whose lines say a step or epoch and a loss: step 100 | loss 2.3 | val_loss 2.4"
)
_HEAD = 1 << 16
# So far a log is looked at for its first line of numbers.
_FAR = 32 << 20
_FAIRSEQ = re.compile(
    r"\|\s*(train_inner|train|valid\w*)\s*\|\s*\{|\]\[INFO\] - (\{\"epoch|epoch \d+)|num_updates\s+\d|valid on '"
    r"|^\|?\s*epoch\s+\d+:\s+\d+\s*/\s*\d+ \w*loss=|^\|?\s*epoch \d+ \| (train|valid) loss",
    re.MULTILINE,
)
_TABLE = re.compile(r"<table\b", re.IGNORECASE)
_RULER = re.compile(r"^\s*\|?(?=[^\n]*\|)\s*:?-+:?\s*(\|\s*:?-*:?\s*)*$", re.MULTILINE)


def read_any(path: Path, maps: Maps) -> Imported:
    """Reads a file or folder of any known kind.

    Raises SourceError if it is missing, of no known kind or damaged, or if no number of it is understood.
    """
    found = _read_folder(path, maps.at(path)) if path.is_dir() else _read_file(path, maps)
    if not found.numbers and not found.curves and not found.examples:
        names = ", ".join(repr(mapped.source) for mapped in found.mapping[:8])
        raise SourceError(
            f"no number in it is understood ({found.kind})",
            where=str(path),
            hint=(f"Found {names}. " if names else "")
            + "".join(
                f"{m.source!r} is {m.reason}. " if m.reason.startswith("no ") else f"{m.source!r}: {m.reason}. "
                for m in found.mapping[:3]
                if m.reason
            )
            + "Say what they mean with --map NAME=RUN:METRIC, NAME=DATASET:METRIC or NAME=ROLE."
            + (f" Notes: {'; '.join(notes[:3])[:300]}" if (notes := [*found.notes, *found.unread.note()]) else ""),
        )
    found.notes.extend([*found.unread.note(), *remarks(found)])
    return found


def _read_file(path: Path, maps: Maps) -> Imported:
    if not path.is_file():
        if path.exists():
            hint = "`lossary import -` reads what a pipe gives."
            raise SourceError("not an ordinary file", where=str(path), hint=hint)
        raise SourceError("no such file or folder", where=str(path))
    try:
        return _of_file(_read_content(path, maps.at(path)), path)
    except SourceError as error:
        if error.where and error.where.startswith("line "):
            # A grid knows its line and not its file.
            raise SourceError(error.message, where=f"{path}, {error.where}", hint=error.hint) from None
        raise


def _of_file(found: Imported, path: Path) -> Imported:
    """The import with its file beside every name, by which a map tells files apart."""
    return replace(found, mapping=[replace(mapped, file=str(path)) for mapped in found.mapping])


def _read_content(path: Path, maps: Maps) -> Imported:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise SourceError("the file is empty", where=str(path))
    if head.startswith(b"SQLite format 3\0"):
        return _read_database(path, maps)
    if head.startswith(b"PAR1"):
        return read_parquet(path, maps)
    if looks_like_events(head):
        return read_tensorboard(path, maps, [path])
    if looks_like_wandb(head):
        return read_wandb_file(path, maps)
    if head.startswith(b"PK\x03\x04") and path.suffix.lower() in (".xlsx", ".xlsm"):
        return read_grids(read_excel_grids(path), path, "Excel tables", maps)
    if head.startswith(b"PK\x03\x04") and path.suffix == ".eval":
        return read_inspect(path, maps)
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _unknown(path)
    return _read_text_file(path, head, maps)


def _read_database(path: Path, maps: Maps) -> Imported:
    with open_database(path) as database:
        if is_trackio(database):
            return read_trackio(path, database, maps)
        if {"runs", "metrics"} <= database.tables:
            return read_mlflow_sqlite(path, database, maps)
        if {"run", "experiment"} <= database.tables:
            return read_aim(path, maps)
    raise SourceError("no tables of MLflow's (`runs`, `metrics`) or of Trackio's (`metrics`)", where=str(path))


def _read_folder(path: Path, maps: Maps) -> Imported:
    parts = []
    if is_aim(path):
        parts.append(_of_file(read_aim(path, maps), path))
    if path.name == ".aim" and parts:
        return parts[0]
    events = event_files(path)
    if events:
        parts.append(_of_file(read_tensorboard(path, maps, events), path))
    if any(_is_of_mlflow(Path(folder)) for folder, _, _ in os.walk(path, followlinks=False)):
        parts.append(_of_file(read_mlflow_files(path, maps), path))
    skipped: list[str] = []
    refused: list[SourceError] = []
    files = files_of(path)
    for file in newest_states(files.wanted):
        try:
            part = _read_file(file, maps)
            parts.append(replace(part, unread=part.unread.behind(str(file.relative_to(path)))))
        except LossaryError as error:
            # Numbers of other tasks would look whole without it.
            if isinstance(error, SourceError) and is_of_examples(file):
                refused.append(error)
                continue
            skipped.append(str(file.relative_to(path)))
            if len(skipped) <= 3:
                said = error.message if error.hint is None else f"{error.message} ({error.hint})"
                parts.append(Imported(path=str(file), kind="", notes=[f"{skipped[-1]}: {said}; left out"]))
    if len(skipped) > 3:
        parts.append(Imported(path=str(path), kind="", notes=[noted("left out, too", skipped[3:])]))
    if unlooked := files.not_looked_at():
        said = "files that seem to hold losses were not looked at; name those that are to be read"
        parts.append(Imported(path=str(path), kind="", notes=[noted(said, unlooked)]))
    if refused:
        raise _with_others(refused, [note for part in parts if not part.kind for note in part.notes])
    if not any(part.kind for part in parts):
        tried = "; ".join(note for part in parts for note in part.notes)
        raise SourceError(
            "no event file, no store and no log in the folder that can be read",
            where=str(path),
            hint=tried[:1200] or f"Known: {KINDS}.",
        )
    of_examples = latest_of_each(runs_by_folder(parts, path), path)
    return one_of_all(held_against_results(of_examples, path), path)


def _with_others(refused: list[SourceError], notes: list[str]) -> SourceError:
    """The first refusal of a folder, with the other files that cannot be read."""
    first, *others = refused
    also = [f"Refused, too: {error.where}: {error.message}" for error in others[:8]]
    also += [f"And {len(others) - 8} more"] if len(others) > 8 else []
    hint = ". ".join(text.rstrip(".") for text in (*also, *notes, first.hint or "") if text)
    return type(first)(first.message, where=first.where, hint=f"{hint}." if hint else None)


def _is_of_mlflow(folder: Path) -> bool:
    return folder.name == "metrics" and (folder.parent / "meta.yaml").is_file()


def _read_text_file(path: Path, head: bytes, maps: Maps) -> Imported:
    text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")
    whole, text = text, without_long_lines(text)
    first = whole.lstrip("﻿ \r\n").split("\n", 1)[0].strip()
    if is_samples(first):
        return read_samples(path, maps)
    if is_inspect(text):
        return read_inspect(path, maps)
    if has_latex_tables(text) and not _RULER.search(text):
        return with_unread(read_grids(read_latex_grids(read_text(path)), path, "LaTeX tables", maps), path)
    if first[:1] in "{[" and (found := _read_json(path, first, maps)) is not None:
        return found
    found = _read_log(path, text, maps)
    if found is None and len(head) == _HEAD:
        with path.open("rb") as file:
            found = _read_log(path, without_long_lines(file.read(_FAR).decode("utf-8", "replace")), maps)
    if found is not None:
        return with_unread(found, path)
    if _TABLE.search(text):
        return _read_html(path, maps)
    if isinstance(python_value(first), dict):
        return read_json_lines(path, maps)
    return with_unread(_read_tables(path, first, maps), path)


def _read_html(path: Path, maps: Maps) -> Imported:
    text = read_text(path)
    found = read_grids(read_html_grids(text, path), path, "HTML tables", maps)
    return replace(found, unread=unread_of(text_beside_tables(text)), lines=set())


def _read_tables(path: Path, first: str, maps: Maps) -> Imported:
    """Tables of plain text: in the markup of wikis, with drawn lines, separated, or held apart by blanks."""
    text = without_long_lines(read_text(path))
    html = as_html(text)
    marked = read_html_grids(html, path) if html is not None else []
    for kind, grids in (("tables in a wiki's markup", marked), ("tables with drawn lines", [*read_boxed_grids(text)])):
        if grids:
            return read_grids(grids, path, kind, maps)
    if lists := read_list_grids(text):
        return read_grids(lists, path, "lists", maps)
    said = next((line for line in text.split("\n") if line.strip() and not line.startswith("#")), first)
    if any(separator in said for separator in ",;\t"):
        return _read_csv(path, maps)
    aligned = [*read_aligned_grids(text)]
    if aligned:
        return read_grids(aligned, path, "tables with aligned columns", maps)
    if titled_header(text):
        return _read_csv(path, maps)
    raise _unknown(path)


def _read_log(path: Path, text: str, maps: Maps) -> Imported | None:
    if _RULER.search(text) and re.search(r"^[^\n|]*\|.*$", text, re.MULTILINE):
        return read_grids(read_markdown_grids(read_text(path)), path, "Markdown tables", maps)
    # NeMo's lines say `iteration 9/99 |`, too.
    if NEMO.search(text):
        return read_nemo(path, maps)
    if MEGATRON_TRAIN.search(text) or MEGATRON_EVAL.search(text):
        return read_megatron(path, maps)
    if _FAIRSEQ.search(text):
        return read_fairseq(path, maps)
    if SRILM.search(text):
        return read_srilm(path, maps)
    if BLOCK.search(text):
        return read_blocks(path, maps)
    lines = [line for line in text.split("\n") if line.strip()]
    is_results = "results" in path.name and all(map(EVAL_RESULT.match, lines))
    if is_results or re.search(r"^\s*global_step\s*=\s*\d", text, re.MULTILINE):
        return read_eval_results(path, maps)
    if not _TABLE.search(text) and has_rows(text):
        return read_line_log(path, maps)
    return None


def _read_json(path: Path, first: str, maps: Maps) -> Imported | None:
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        value = None
    is_lines = isinstance(value, dict) and path.suffix != ".json" and not is_notebook(value)
    if is_lines and not (_are_sizes([value]) and _are_sizes(objects_of(read_text(path)))):
        return read_json_lines(path, maps)
    if value is None and not re.match(r"\{\s*(\"|\}|$)|\[\s*(\{|$)", first):
        # A log line in brackets: `[2026-01-01][valid][INFO] - …`, `{'loss': 2.3, 'epoch': 0.1}`.
        return None
    text = read_text(path)
    if first[:1] == "[" and not re.match(r"\[\s*[\[{\d\"\]]", text.lstrip("﻿ \r\n")):
        return None
    whole = _json_or_none(text)
    if is_notebook(whole):
        return read_notebook(path, whole, lambda file: _read_content(file, maps))
    if '"log_history"' in text:
        return read_trainer_state(path, maps)
    if is_history(whole):
        return read_history(path, maps)
    several = objects_of(text) if whole is None else []
    if isinstance(value, dict) and text.strip().count("\n") > 0 and not _are_sizes(several):
        return read_json_lines(path, maps)
    value = several if len(several) > 1 else read_json_text(path)
    if is_graph(value):
        return read_graph(path, maps)
    whole, unsaid = gathered(value)
    found = _read_records(path, by_rows(whole), maps)
    found.notes.extend([unsaid] if unsaid else [])
    return found


def _read_records(path: Path, value: Any, maps: Maps) -> Imported:
    if isinstance(value, dict) and any("loss" in key or "perplexity" in key for key in value):
        return read_results_json(path, maps)
    if is_records(value):
        return read_json_records(path, value, maps)
    grid = grid_of_json(value, path.stem)
    if grid is not None:
        return read_grids([grid], path, "JSON table", maps)
    raise _unknown(path)


def _are_sizes(values: list[Any]) -> bool:
    return are_sizes([dict(flat(value)) for value in values])


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _read_csv(path: Path, maps: Maps) -> Imported:
    try:
        tables = tables_of(read_csv_grid(read_text(path), path), str(path))
    except SourceError as error:
        if path.suffix.lower() in (".csv", ".tsv"):
            raise
        raise SourceError(
            f"no line says a step or epoch and a loss, and it is no table either: {error.message}",
            where=error.where,
            hint=f"A log needs both on one line, as in `step 100 | loss 2.3`. Known: {KINDS}.",
        ) from None
    if len(tables) != 1:
        return read_grids(tables, path, "CSV tables", maps)
    grid = joined_headers(tables[0], str(path))
    if [cell.lower() for cell in grid.rows[0]] == ["wall time", "step", "value"]:
        grid = _of_tensorboard(grid, path)
    grid, run = _of_one_metric(grid, path)
    if is_clearml(grid):
        found = Collector(path, "ClearML scalars", maps)
        clearml_scalars(grid, found, run)
        return found.finish()
    grid = with_runs(grid, maps)
    if is_series_grid(grid, maps):
        found = Collector(path, kind_of_series(grid.rows[0]), maps)
        series_of_grid(grid, found, run)
        return found.finish()
    return read_grids([grid], path, "CSV table", maps)


def _of_tensorboard(grid: Grid, path: Path) -> Grid:
    """A CSV that TensorBoard exports: the tag stands in its file's name only, `run-base-tag-eval_loss.csv`."""
    named = re.fullmatch(r"(?:run-.*-)?tag-(.+)", path.stem)
    if named is None:
        raise SourceError(
            "TensorBoard's CSV of one scalar, whose name says no tag",
            where=str(path),
            hint="Call it run-RUN-tag-TAG.csv, as TensorBoard does, or import the event files.",
        )
    return Grid(title=grid.title, rows=[["Wall time", "Step", named[1]], *grid.rows[1:]], first_line=grid.first_line)


def _of_one_metric(grid: Grid, path: Path) -> tuple[Grid, str]:
    """A CSV of steps and one value whose metric is its file's name, with its run: Neptune's `eval_loss.csv`, and
    DVCLive's `plots/metrics/train/loss.tsv`, where folders say more of the name."""
    heads = [cell.lower() for cell in grid.rows[0]] if grid.rows else []
    others = set(heads) - {"step", "timestamp", "time", "epoch"}
    only = next(iter(others)) if len(others) == 1 < len(heads) else ""
    if re.sub(r"\W+", "_", only) == path.stem.lower() != only:
        # DeepSpeed's monitor: `JOB/Train_Samples_train_loss.csv` has a column `Train/Samples/train_loss`.
        return grid, path.resolve().parent.name
    if len(others) != 1 or others - {"value", path.stem.lower()} or read_name(path.stem).quantity is None:
        return grid, path_run(path)
    parts = path.resolve().parts[:-1]
    at = next((n + 2 for n in range(len(parts) - 1) if parts[n : n + 2] == ("plots", "metrics")), len(parts))
    name = "/".join((*parts[at:], path.stem))
    rows = [[name if head in others else cell for head, cell in zip(heads, grid.rows[0], strict=True)], *grid.rows[1:]]
    above = [part for part in parts[1:at] if part not in ("dvclive", "plots", "metrics", "logs")]
    return replace(grid, rows=rows), above[-1] if above else path.stem


def _unknown(path: Path) -> SourceError:
    return SourceError("of no kind that is known here", where=str(path), hint=f"Known: {KINDS}.")
