"""Logs of training programs as text, each with a grammar of its own."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lossary.results.importers.collect import Collector, as_float
from lossary.results.importers.lines import log_lines, parsed_json
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Imported, Split, Tag

__all__ = [
    "read_blocks",
    "read_eval_results",
    "read_fairseq",
    "read_megatron",
    "read_nemo",
    "read_srilm",
]

_NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf|NaN|Infinity)"
_SUBSET_SPLITS: dict[str, Split] = {"val": "eval", "valid": "eval", "validation": "eval", "test": "test"}

MEGATRON_TRAIN = re.compile(r"\biteration\s+(\d+)\s*/\s*\d+\s*\|")
MEGATRON_EVAL = re.compile(
    r"\b(validation|valid|val|test)(?:[-/_]([\w.\-]+))? (?:loss|results) at "
    r"(?:iteration\s+(\d+)|the end of training)([^|]*)\|"
)
_MEGATRON_FIELD = re.compile(rf"\|\s*([A-Za-z][\w\-/ ]*?)(?::\s*|\s+)({_NUMBER})(?=\s*(?:\||$))")


def read_megatron(path: Path, maps: Maps) -> Imported:
    """Megatron-LM's and Megatron-DeepSpeed's log.

    `iteration 100/ 1000 | … | lm loss: 7.1E+00 |` is of training. `valid(ation) loss at iteration 100`, with
    `on test set`, `for test data`, `[english]` or `validation-english` behind it, says what it evaluated.
    """
    found = Collector(path, "Megatron log", maps)
    step = 0
    for number, line, _ in log_lines(path):
        train, evaluated = MEGATRON_TRAIN.search(line), MEGATRON_EVAL.search(line)
        split: Split = "train"
        dataset = None
        if evaluated:
            step = int(evaluated[3] or step)
            split, dataset = _megatron_set(evaluated)
        elif train:
            step = int(train[1])
        else:
            continue
        found.lines.add(number)
        start = (evaluated or train).end() - 1  # type: ignore[union-attr]
        prefix = {"train": "", "eval": "validation ", "test": "test ", "unknown": ""}[split]
        for name, text in _MEGATRON_FIELD.findall(line[start:].rstrip()):
            value = as_float(text.replace(",", ""))
            if value is not None:
                shown = f"{prefix}{f'[{dataset}] ' if dataset else ''}{name.strip()}"
                tag = Tag(path.stem, shown, name.strip(), split=split, dataset=dataset)
                found.add(tag, step, value, f"line {number}")
    return found.finish()


def _megatron_set(match: re.Match[str]) -> tuple[Split, str | None]:
    split = _SUBSET_SPLITS[match[1]]
    tail = match[4].strip()
    named = re.search(r"\b(?:on|for)\s+(validation|valid|val|test)\s+(?:set|data)", tail)
    if named:
        return _SUBSET_SPLITS[named[1]], match[2]
    bracket = re.search(r"\[([^\]]+)\]", tail) or re.search(r"\b(?:on|for)\s+(?:dataset\s+)?([\w.\-]+)", tail)
    return split, match[2] or (bracket[1] if bracket else None)


class _Entry(NamedTuple):
    """One line of fairseq's: which subset, and its fields."""

    subset: str
    fields: dict[str, str]
    line: int


_FAIRSEQ_JSON = re.compile(r"(?:\|\s*(\w+)\s*\||\[(\w+)\]\[INFO\] -)\s*(\{.*\})\s*$")
_FAIRSEQ_SUBSET = re.compile(r"\b(valid|train|test)\s+on\s+'([^']+)'\s+subset")
_FAIRSEQ_INNER = re.compile(r"\bepoch\s+\d+:\s+\d+\s*/\s*\d+\s+(\w+=.*)$")
_FAIRSEQ_EPOCH = re.compile(r"(?:^|\|\s*|- )epoch\s+(\d+)\s*\|(.*)$")


def read_fairseq(path: Path, maps: Maps) -> Imported:
    """fairseq's log of any age, with hydra or without. Its losses are in bits: they are turned into nats.

    Subsets of evaluation (`valid`, `valid1`, `wiki_valid`) are datasets where there is more than one; `best_loss` is
    the best so far, and `nll_loss` what `loss` is without label smoothing.
    """
    found = Collector(path, "fairseq log", maps)
    entries = list(_fairseq_entries(path))
    found.lines.update(entry.line for entry in entries)
    evaluated = {entry.subset for entry in entries if not entry.subset.startswith("train")}
    inner = any(entry.subset == "train_inner" for entry in entries)
    for entry in entries:
        _add_fairseq(found, path.stem, entry, several=len(evaluated - {"test"}) > 1, inner=inner)
    found.note("fairseq prints losses in base 2; they were multiplied by ln 2")
    return found.finish()


def _fairseq_entries(path: Path) -> Iterator[_Entry]:
    for number, line, _ in log_lines(path):
        as_json = _FAIRSEQ_JSON.search(line)
        if as_json:
            try:
                value = parsed_json(as_json[3])
            except (ValueError, RecursionError):
                continue
            subset = as_json[1] or as_json[2]
            fields = {key.removeprefix(f"{subset}_"): str(item) for key, item in value.items()}
            if subset == "train_inner":
                fields = {key.removeprefix("train_"): item for key, item in fields.items()}
            yield _Entry(subset, fields, number)
            continue
        progress = _FAIRSEQ_INNER.search(line)
        if progress:
            yield _Entry("train_inner", dict(re.findall(r"(\w+)=([^,\s]+)", progress[1])), number)
            continue
        epoch = _FAIRSEQ_EPOCH.search(line)
        if epoch:
            yield _fairseq_text(epoch, number)


def _fairseq_text(match: re.Match[str], number: int) -> _Entry:
    named = _FAIRSEQ_SUBSET.search(match[2])
    parts = [part.strip().rsplit(None, 1) for part in match[2].split("|")]
    fields = {part[0]: part[1] for part in parts if len(part) == 2}
    fields.setdefault("epoch", match[1])
    subset = named[2] if named else "train"
    # The oldest say `valid loss 8.0` in a line of their own.
    if any(re.match(r"valid[ _](loss|nll_loss|ppl)$", key) for key in fields):
        subset = "valid"
    fields = {re.sub(rf"^({subset}|train|valid)[ _]", "", key): value for key, value in fields.items()}
    return _Entry(subset, fields, number)


def _add_fairseq(found: Collector, run: str, entry: _Entry, *, several: bool, inner: bool) -> None:
    updates = as_float(entry.fields.get("num_updates", ""))
    epoch = as_float(entry.fields.get("epoch", ""))
    step = updates if updates is not None else epoch
    if step is None:
        found.note(f"line {entry.line} has neither num_updates nor epoch; left out")
        return
    is_training = entry.subset.startswith("train")
    split: Split = "train" if is_training else "test" if entry.subset.startswith("test") else "eval"
    for key, text in entry.fields.items():
        value = as_float(text)
        if value is None or not (key.endswith("loss") or "acc" in key):
            continue
        refused = None
        if key.startswith("best"):
            refused = "a best value so far, not the value of a step"
        elif key == "loss" and "nll_loss" in entry.fields:
            refused = "with what the criterion adds; nll_loss stands beside it"
        elif is_training and inner and entry.subset == "train":
            refused = "a mean over an epoch, beside the losses by step"
        dataset = entry.subset if several and not is_training and split == "eval" else None
        tag = Tag(
            run,
            f"{entry.subset} {key}",
            key,
            split=split,
            dataset=dataset,
            axis="step" if updates is not None else "epoch",
            unit="bits",
            refused=refused,
        )
        found.add(tag, int(step), value, f"line {entry.line}")


NEMO = re.compile(
    r"\b(?:reduced_)?train_loss(?:_step)?\s*[=:]\s*[\d.]+.*global_step"
    r"|(?<!TrainOutput\()\bglobal_step\s*[=:].*train_loss"
)
_NEMO_FIELD = re.compile(rf"(?<![\w/\-])([A-Za-z_][\w/\-]{{0,200}})\s*[=:]\s*({_NUMBER})(?=[,\s|\]]|$)")


def read_nemo(path: Path, maps: Maps) -> Imported:
    """NeMo's log: a line or progress bar with `global_step` and a training loss; `val_loss` stays until the next."""
    found = Collector(path, "NeMo log", maps)
    before: dict[str, float] = {}
    for number, line, _ in log_lines(path):
        fields = {name: as_float(text.replace(",", "")) for name, text in _NEMO_FIELD.findall(line)}
        step = fields.pop("global_step", None)
        if step is None or not NEMO.search(line):
            continue
        found.lines.add(number)
        for name, value in fields.items():
            if value is None or (name.startswith("val") and before.get(name) == value):
                continue
            before[name] = value
            found.add(Tag(path.stem, name, name), int(step), value, f"line {number}")
    return found.finish()


BLOCK = re.compile(r"\[(?:FIT\]\[)?(?:step=(\d[\d,]*)/|(?:epoch=(\d+)(?:/\d+)?\]\[)?batch=(\d+)(?:/\d+)?\])")
_BLOCK_FIELD = re.compile(
    rf"^(?:[^\[]*\s)??(?:\s*)((?:(?:Train|Eval)\s+)?[A-Za-z][\w .\-/()]*?)\s*[=:]\s*({_NUMBER})\s*$"
)
# A line of one metric; the form takes the square of its length.
_MOST_OF_A_FIELD = 400
_COMPOSER = re.compile(r"^(Train|Eval)\s+")


def read_blocks(path: Path, maps: Maps) -> Imported:
    """OLMo's, OLMo-core's and Composer's console: a line with the step, and below it a line for each metric."""
    found = Collector(path, "OLMo or Composer log", maps)
    points = list(_block_points(path))
    names = {name for name, *_ in points}
    found.lines.update(number for *_, number in points)
    for name, step, value, number in points:
        stage = _COMPOSER.match(name)
        core = _COMPOSER.sub("", name)
        split: Split | None = None
        refused = None
        if stage:
            split = "train" if stage[1] == "Train" else "eval"
            core = re.sub(r"^(?:metrics|loss)/(?:train|eval)(?=/)", lambda m: m[0].split("/")[0], core)
            core = core.removeprefix("metrics/")
        if name == "Train loss/train/total" and "Train metrics/train/LanguageCrossEntropy" in names:
            refused = "with what is added to the loss; LanguageCrossEntropy stands beside it"
        found.add(Tag(path.stem, name, core, split=split, refused=refused), step, value, f"line {number}")
    return found.finish()


def _block_points(path: Path) -> Iterator[tuple[str, int, float, int]]:
    """Name, step, value and line of each metric."""
    step: int | None = None
    for number, line, _ in log_lines(path):
        header = BLOCK.search(line)
        if header:
            step = int((header[1] or header[3]).replace(",", ""))
            continue
        field = _BLOCK_FIELD.match(line.rstrip()) if len(line) <= _MOST_OF_A_FIELD else None
        value = as_float(field[2].replace(",", "")) if field else None
        if field is None or value is None or step is None:
            continue
        yield field[1].strip(), step, value, number


SRILM = re.compile(r"^file (\S+): \d+ sentences, \d+ words, \d+ OOVs\s*\n\d+ zeroprobs, logprob= ", re.MULTILINE)
_SRILM_SET = re.compile(r"file (\S+): \d+ sentences")
_SRILM_PPL = re.compile(rf"\d+ zeroprobs, logprob= {_NUMBER} ppl= ({_NUMBER})")


def read_srilm(path: Path, maps: Maps) -> Imported:
    """What SRILM's `ngram -ppl` prints: a line that names the text, and one with its perplexity; `ppl1` is told."""
    found = Collector(path, "SRILM log", maps)
    dataset = ""
    for number, line, _ in log_lines(path):
        if named := _SRILM_SET.match(line):
            dataset = Path(named[1]).stem
        elif (measured := _SRILM_PPL.match(line)) and dataset:
            value = as_float(measured[1].replace(",", ""))
            if value is not None:
                tag = Tag(path.stem, f"{dataset} ppl", "perplexity", split="eval", dataset=dataset)
                found.add(tag, 0, value, f"line {number}")
        else:
            continue
        found.lines.add(number)
    found.note("ppl1, the perplexity without ends of sentences, is left out")
    return found.finish()


EVAL_RESULT = re.compile(rf"^\s*([A-Za-z][\w/.\- ]*?)\s*=\s*({_NUMBER})\s*$")


def read_eval_results(path: Path, maps: Maps) -> Imported:
    """google-research's eval_results.txt (BERT, ALBERT, ELECTRA): `name = value`, with `global_step`."""
    found = Collector(path, "BERT eval_results", maps)
    points: list[tuple[str, float, int]] = []
    step = 0
    for number, line, _ in log_lines(path):
        match = EVAL_RESULT.match(line)
        if match is None:
            continue
        found.lines.add(number)
        value = as_float(match[2].replace(",", ""))
        if match[1] == "global_step":
            step = int(value or 0)
        elif value is not None:
            points.append((match[1], value, number))
    run = path.stem if path.resolve().parent.name in ("", "/") else path.resolve().parent.name
    for name, value, number in points:
        core = name.removeprefix("eval_")
        found.add(Tag(run, name, core, split="eval"), step, value, f"line {number}")
    return found.finish()
