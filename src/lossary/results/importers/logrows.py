"""The grammar of one line of a log: where it stands on the axis, its fields, and what its other words say.

step 100/1000 | loss 2.31 | lr 3e-4          Epoch [1/3], Step [100/600], Loss: 2.31
Step 00250 | Validation bpb: 1.21            {'eval_loss': 2.4, 'epoch': 1.0}
iter=100 train_loss=2.31 val_loss=2.40       100/100 - 3s - loss: 0.5 - val_loss: 0.6
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from lossary.results.importers.collect import as_float
from lossary.results.importers.lines import is_number, parsed_json, python_value
from lossary.results.importers.logline import Field, Row, State
from lossary.results.importers.model import Split
from lossary.results.importers.names import read_name, split_word
from lossary.results.importers.records import flat
from lossary.results.importers.titles import is_beside
from lossary.results.importers.translators import is_of_translator, translator_row

__all__ = ["has_rows", "is_measured", "is_plain_loss", "rows_of"]

_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf|NaN|Infinity)"
_MEASURED = re.compile(r"loss|ppl|perplexity|acc|bpb|nll|xent|entropy|\bs:\d+ t[er]l:", re.IGNORECASE)
# As wide as any gap need be: forms with blanks in them take the square of its width.
_WIDE = re.compile(r"[ \t]{9,}")
_COLOUR = re.compile(r"\x1b\[[\d;]*[A-Za-z]|\x08+")
_TENSOR = re.compile(r"(?:tensor|np\.float(?:32|64))\(([^(),]{1,40})[^()]{0,80}\)")
# What a logger puts before its message: times, levels, ranks.
_PREFIX = re.compile(
    r"^(?:[\s|>*#-]*+(?:\[?\(?(?:\d{4}[-/]\d\d[-/]\d\d|\d\d[-/]\d\d[-/]\d{2,4}|\d{1,2}:\d\d:\d\d(?:[.,]\d+)?Z?"
    r"|[T ](?=\d\d:)|(?:INFO|DEBUG|WARNING|NOTICE|ERROR)\b|(?:tensorflow|absl|root)(?=:)"
    r"|(?:rank|worker|default)[ _:]?\d+)[\])]?[:\s,|-]*+))+",
    re.IGNORECASE,
)
_COUNT = r"\s*+(?:\.{3}\s*+)?(?:[:=#]\s*+)?[\[(]?\s*+(\d[\d,]*)(?:\s*/\s*(\d[\d,]*))?\s*[\])]?(?![\w%]|\.\d|[eE]-)"
_STEP = re.compile(
    r"(?<![\w/])(?:(?:global|train(?:ing|er)?|cur(?:rent)?|optimizer)[_ /]?)?"
    r"(?:steps?|iter(?:ation)?s?|(?:num_)?updates?|batch(?:es)?|it|шаг)" + _COUNT,
    re.IGNORECASE,
)
# `iter 400 step 100`: an update takes several passes, and the step counts updates.
_PASSES = re.compile(r"(?<![\w/])(?:iter(?:ation)?s?|micro[_ -]?(?:steps?|batch(?:es)?))" + _COUNT, re.IGNORECASE)
_UPDATES = re.compile(r"(?<![\w/])(?:(?:global|optimizer)[_ /]?)?(?:steps?|updates?)" + _COUNT, re.IGNORECASE)
_BATCHES = re.compile(r"(?<![\w.])(\d[\d,]*)\s*/\s*(\d[\d,]*)\s+batches\b")
_OF_EPOCH = re.compile(r"(?<![\w.])(\d+) ?epoch results\b")
# What JAX' loops print by way of clu: `logging_writer.py:48] [100] loss=2.3`.
# LightGBM and XGBoost: `[10]	train's loss: 1.2	valid's loss: 1.3`.
_OF_ROUND = re.compile(r"^\s*\[(\d+)()\](?=\s+[^\W\d])")
_OF_CLU = re.compile(r"logging_writer\.py:\d+\]\s*\[(\d+)()\]")
_STEPS = (_STEP, _BATCHES, _OF_CLU, _OF_ROUND)
_EPOCH = re.compile(
    r"(?<![\w/])(?:epochs?|ep|эпоха|(?:split|chunk|shard)(?=\s+\d+\s*/))\s*+(?:[:=#]\s*+)?[\[(]?\s*+(\d+(?:\.\d+)?)(?:\s*/\s*\d+)?\s*[\])]?(?![\w%]|\.\d)",
    re.IGNORECASE,
)
_PAIR = re.compile(rf"([^\W\d][\w/.\-]*)\s*[=:]\s*({_NUMBER})(%?)(?=[\s,;|)\]}}]|$)")
_WORD = r"[^\W\d][\w/.\-]*"
_SEGMENT = re.compile(rf"^({_WORD}(?: {_WORD}){{0,4}})(\s*[:=]\s*|\s)({_NUMBER})(%?)$")
_NAMED = re.compile(rf"({_WORD}(?: {_WORD}){{0,3}}) ({_NUMBER})(?=\s|$)")
# `(wiki 2.7, code 2.5)` behind a loss: perhaps of datasets.
_UNSAID = re.compile(r"([^\W\d]\w*) \d{1,4}\.\d+")
# `best_val 3.2`: it speaks of another evaluation than the line's.
_OF_BEST = re.compile(r"(?:new |so far )?best(?![a-z])", re.IGNORECASE)
# `Best epoch 2 with val loss 2.75`, at the end of a log.
_OF_BEST_STEP = re.compile(r"\bbest (?:epoch|step|iteration)(?:\s|[:=#]|was|is|at)*\d", re.IGNORECASE)
_ENDS = re.compile(r"(?:the )?(?:end of training|final|finished|done)", re.IGNORECASE)
_GAP = re.compile(r"(?:(?<=[^\W\d])|(?<=[:=]))\s{2,}(?=[-+]?[\d.]|nan\b|inf\b)")
_SEPARATOR = re.compile(r"\s*[|,;•·]\s*|\s+-+\s+|\s{2,}|\t|[()\[\]{}]|:\s(?=[^\W\d])")
_REMARK = re.compile(r"\([^()=:]*\)")
_DICT = re.compile(r"\{[^{}]*\}")
_ITEM = re.compile(rf"['\"]([^'\"]+)['\"]\s*:\s*['\"]?({_NUMBER})['\"]?(%?)(?=\s*[,}}])")
_BAR = re.compile(r"(?<!\d)(\d{1,3})%\|[^|]*\|\s*(\d+)/(\d+)\s*\[([^\]]*)\]?")
_KERAS_EPOCH = re.compile(r"[\W_]*epoch\s*[:#]?\s*(\d+)(?:\s*(?:/|of)\s*\d+)?[\W_]*", re.IGNORECASE)
# `train loss <loss>=2.31`
_OWNS = re.compile(r"(?<=\t)(\w+)'s (?=\w)")
# A dict whose first line does not end it.
_OPENS = re.compile(r"\s*\{\s*(?:$|['\"][^{}]*$)")
_MOST_LINES = 200
_ANGLES = re.compile(r"\s*<\w+>(?=\s*=)")
_KERAS = re.compile(r"(?:^|\s)(\d+)/(\d+)\s[^:]{0,200}?-\s(?=\w+: )")
# `1: step 9 …` as Slurm labels lines, `[rank1]: …`, `[default1]:…`
_RANK = re.compile(r"\s*\[?(?:(?:rank|worker|default)[ _:]?)?(\d{1,5})(?:\]:?|(?<=\d):)\s?(?!\d)", re.IGNORECASE)
# `epoch: 1 step: 422, loss is 3.21`
_IS = re.compile(r"(?<=loss|.ppl|lity|racy) is (?=[-+]?[\d.])", re.IGNORECASE)
# `The training loss for Epoch 1 is 7.5`
_AT = re.compile(
    r"(?:\b(?:the|our)\s)?((?:[a-z]{1,12}[ _-]){0,2}(?:loss|perplexity|accuracy)) (?:for|at|after|in|of) (?:the )?"
    r"((?:epoch|step|iteration)\s?#?\d+)(?: (?:is|was)|\s?[:=])? (?=[-+]?\d)"
    r"|\b(?:the|our) (?=(?:[a-z]{1,12} )?loss is )",
    re.IGNORECASE,
)
# Julia's logger draws a bar before the lines of one message.
_OF_JULIA = re.compile(r"^\s*[┌│└]\s+(?:(?:Info|Debug):\s)?")
_LLM_C = re.compile(rf"^s:(\d+) (tel|trl):({_NUMBER})")
# Only an optimizer has them: what stands beside them was trained on.
_OF_TRAINING = re.compile(
    r"(?<![a-z])(?:lr|lrm|learning[ _]rate|g(?:rad(?:ient)?)?[ _]?norm|norm|mfu)(?![a-z])", re.IGNORECASE
)
# TensorFlow's Estimator says it of the results of an evaluation only.
_OF_EVALUATION = re.compile(r"\bsaving dict for\b", re.IGNORECASE)
# What a field without a number says: `collection=training_eval/wiki`, `split: val`.
_SAID = re.compile(
    r"(?<![\w.])(collection|split|dataset|data_?set|set|subset|phase|stage|corpus|domain)\s*[=:]\s*['\"]?([^\W\d][\w./\-]*)['\"]?,?"
)
# `validation loss for step 500, set pile: 2.912`
_OF_SENTENCE = re.compile(r"(?:set|dataset|on|for|of|corpus|domain|subset)\s+([^\W\d][\w.\-]*)")
_OF_A_SET = re.compile(r"\b(?:on|for)\s+(?:the\s+)?(?:dataset\s+)?['\"]?([^\W\d][\w.\-]*)['\"]?", re.IGNORECASE)
_NO_SET = {"the", "step", "epoch", "set", "a", "all", "rank", "device", "cuda", "cpu", "gpu", "batch", "iteration"}


def has_rows(text: str) -> bool:
    """Whether a text has a line with a step and a loss; one without a step alone is none."""
    return any(not row.is_before_all for row in rows_of(enumerate(text.split("\n"), 1), State()))


def rows_of(lines: Iterable[tuple[int, str]], state: State) -> Iterator[Row]:
    for number, whole in _whole_dicts(lines):
        for line in whole.split("\r"):
            plain = _ANGLES.sub("", _TENSOR.sub(r"\1", _COLOUR.sub("", line))).strip("\n")
            plain = _OWNS.sub(r"\1 ", _WIDE.sub(" " * 8, plain))
            plain = _OF_JULIA.sub("", _AT.sub(_place_first, plain))
            row = _row(_IS.sub(": ", plain), number, state)
            if row is not None:
                row.bars = len(state.bars)
            if row is not None and (rank := _RANK.match(plain)) is not None:
                row.rank = rank[1]
            if row is not None and any(is_measured(item.name) for item in row.fields):
                state.last = row
                yield row


def _place_first(said: re.Match[str]) -> str:
    return f"{said[2]}, {said[1]}: " if said[1] else ""


def _whole_dicts(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The lines, with a dict that is printed over several of them as one: pprint's, and indented JSON."""
    kept: list[tuple[int, str]] = []
    depth = 0
    for number, line in lines:
        if not kept and not _OPENS.match(line):
            yield number, line
            continue
        kept.append((number, line))
        depth = line.count("{") - line.count("}") + (depth if len(kept) > 1 else 0)
        if depth <= 0:
            yield kept[0][0], " ".join(part.strip() for _, part in kept)
            kept = []
        elif len(kept) > _MOST_LINES or (len(kept) > 1 and _OPENS.match(line)):
            yield from kept
            kept = []
    yield from kept


def is_measured(name: str) -> bool:
    return read_name(name).quantity is not None


def _row(line: str, number: int, state: State) -> Row | None:
    header = _KERAS_EPOCH.fullmatch(line)
    if header:
        state.keras_epoch, state.ended = int(header[1]), False
        return None
    bars = [(int(bar[2]), int(bar[3])) for bar in _BAR.finditer(line)]
    state.bars += bars
    if is_of_translator(line):
        return translator_row(line, number, state)
    if not _MEASURED.search(line):
        return None
    if "TrainOutput(" in line:
        # What transformers' `train()` gives back repeats the closing summary.
        state.told.add(number)
        return None
    short = _LLM_C.match(line)
    if short:
        name = {"tel": "val loss", "trl": "train loss"}[short[2]]
        return Row(line=number, fields=[Field(name, float(short[3]))], step=int(short[1]))
    literal = _DICT.search(line)
    if literal and _ITEM.search(literal[0]) and _MEASURED.search(literal[0]):
        return _dict_row(line, literal, number, bars)
    if state.keras_epoch is not None and (match := _KERAS.search(line)):
        return _keras_row(line, match, number, state)
    if bars:
        return _bar_row(line, number, state)
    return _plain_row(line, number, state)


def _dict_row(line: str, literal: re.Match[str], number: int, bars: Sequence[tuple[int, int]]) -> Row | None:
    values = _json_values(line) or {name: _scaled(text, percent) for name, text, percent in _ITEM.findall(literal[0])}
    step = next((values.pop(name) for name in list(values) if _STEP.fullmatch(f"{name}=0")), None)
    epoch = values.pop("epoch", None)
    fields = [Field(name, value) for name, value in values.items()]
    if step is None and epoch is not None:
        return Row(line=number, fields=fields, epoch=epoch, is_entry=True)
    outside = line[: line.index("{")] if not bars else ""
    before = _axis(_PREFIX.sub("", outside))
    row = Row(line=number, fields=fields, step=None if step is None else int(step), epoch=epoch)
    if step is None:
        row.step, row.epoch, row.total = before.step, before.epoch, before.total
    if row.step is None and row.epoch is None:
        return None
    return _said(row, outside, literal[0])


def _json_values(line: str) -> dict[str, float]:
    """The numbers of a line that ends in a JSON object, which may hold others: `INFO {"step": 9, "metrics": {…}}`."""
    try:
        value = parsed_json(line[line.index("{") :])
    except (ValueError, RecursionError):
        # As Python prints it; one without others in it is read by its items, of which some are numbers in quotes.
        value = python_value(line[line.index("{") :]) if line.count("{") > 1 else None
    if not isinstance(value, dict):
        return {}
    if isinstance(value.get("step"), list) and isinstance(value.get("data"), dict):
        # NVIDIA's DLLogger: `"step": [epoch, step], "data": {…}`.
        value = {**value["data"], **dict(zip(("step", "epoch"), reversed(value["step"]), strict=False))}
    return {name: float(item) for name, item in flat(value) if is_number(item)}


def _keras_row(line: str, match: re.Match[str], number: int, state: State) -> Row | None:
    """Keras' bar at its end; those before it are means over a part of the epoch."""
    if match[1] != match[2]:
        state.told.add(number)
        return None
    if state.ended:
        state.evaluated_after += 1
        state.told.add(number)
        return None
    fields = [Field(name, float(text)) for name, text, _ in _PAIR.findall(line[match.end() :])]
    # Keras writes one last bar twice: without the evaluation, then with it.
    state.ended = any(read_name(item.name).split == "eval" for item in fields) or "\x08" not in line
    names = {read_name(item.name).split for item in fields if is_measured(item.name)}
    return Row(line=number, fields=fields, epoch=state.keras_epoch, split="train" if names else None)


def _bar_row(line: str, number: int, state: State) -> Row | None:
    """tqdm's bar with losses behind it: by its own count, or by the epoch in front of it once it is full."""
    *_, bar = _BAR.finditer(line)
    fields = [Field(name, _scaled(text, percent)) for name, text, percent in _PAIR.findall(bar[4])]
    before = _axis(_PREFIX.sub("", line[: bar.start()]))
    if before.epoch is not None and before.step is None:
        if bar[2] != bar[3]:
            state.told.add(number)
            return None
        return _said(Row(line=number, fields=fields, epoch=before.epoch), line[: bar.start()], bar[4])
    row = Row(line=number, fields=fields, step=int(bar[2]) if before.step is None else before.step)
    return _said(row, line[: bar.start()], bar[4])


class _Place(NamedTuple):
    """Step and epoch of a line, and the text without them."""

    step: int | None
    epoch: float | None
    total: int | None
    rest: str


def _axis(text: str) -> _Place:
    if (passes := _PASSES.search(text)) and _UPDATES.search(without := _cut(text, passes)):
        text = without
    step = next((match for form in _STEPS if (match := form.search(text))), None)
    epoch = _EPOCH.search(text) or _OF_EPOCH.search(text)
    rest = text
    for match in sorted((m for m in (step, epoch) if m), key=lambda m: -m.start()):
        rest = _cut(rest, match)
    return _Place(
        int(step[1].replace(",", "")) if step else None,
        float(epoch[1]) if epoch else None,
        int(step[2].replace(",", "")) if step and step[2] else None,
        rest,
    )


def _cut(text: str, match: re.Match[str]) -> str:
    return f"{text[: match.start()]}|{text[match.end() :]}"


def _plain_row(line: str, number: int, state: State) -> Row | None:
    text = _PREFIX.sub("", line, count=1)
    if _OF_BEST_STEP.search(text):
        return None
    said = [match.groups() for match in _SAID.finditer(text)]
    place = _axis(_REMARK.sub(_unless_a_place, _SAID.sub(" ", text)))
    fields, words = _fields(place.rest.lstrip("|:, "))
    fields, named = _of_sentence(fields, words)
    # `Iter(val) [500/1000]` says what it measured, `(12.3 sec)` does not.
    words += [remark for remark in _REMARK.findall(text) if split_word(remark.strip("()")) is not None]
    row = Row(line=number, fields=fields, step=place.step, epoch=place.epoch, total=place.total)
    if row.step is None and row.epoch is None:
        # `val loss 5.2` below the line of its step, and nothing else; before the first step there was none.
        splits = {read_name(item.name).split for item in fields if is_measured(item.name)}
        if splits == {None} and words and all(split_word(word) is not None for word in words):
            # `  eval: perplexity 13.25`
            splits, words_left = {split_word(word) for word in words}, []
        else:
            words_left = words
        if state.keras_epoch is not None and splits and None not in splits and not words:
            row.epoch = state.keras_epoch
            return row
        if not splits or not splits <= {"eval", "test"} or not all(map(_ENDS.fullmatch, words_left)):
            return None
        before = state.last or Row(line=0, fields=[], step=0, is_before_all=True)
        row.step, row.epoch, row.total = before.step, before.epoch, before.total
        row.is_before_all = before.is_before_all
    if any(is_measured(item.name) for item in fields):
        remarks = [part.strip() for remark in _REMARK.findall(text) for part in remark.strip("()").split(",")]
        for match in filter(None, map(_UNSAID.fullmatch, [*words, *remarks])):
            if not is_beside(match[1]) and split_word(match[1]) is None:
                state.unsaid.setdefault(match[1], number)
    row = _said(row, " ".join(words), line)
    row.dataset = named or row.dataset
    for key, value in said:
        _say(row, key, value)
    return row


def _unless_a_place(remark: re.Match[str]) -> str:
    """Nothing, or the remark where it says the step: `Train Metrics (step 100) - Loss: 2.3`."""
    return remark[0] if _STEP.search(remark[0]) or _EPOCH.search(remark[0]) else " "


def _say(row: Row, key: str, value: str) -> None:
    """Puts what a field without a number says into its row: `training_eval/wiki` is the dataset wiki, evaluated."""
    first, _, rest = value.partition("/")
    split = _line_split(re.split(r"_(?=eval$)", first)[-1])
    if split is not None:
        row.split = split
        row.dataset = rest or row.dataset
    elif key not in ("collection", "split", "phase", "stage"):
        row.dataset = value


def _of_sentence(fields: list[Field], words: Sequence[str]) -> tuple[list[Field], str | None]:
    """The only field of a line whose other words name the metric, and the dataset that it is called by."""
    names = (re.sub(r"\s+(?:for|at|on|of|in)$", "", word) for word in words)
    metric = next((name for name in names if _ends_in_a_metric(name)), None)
    if len(fields) != 1 or is_measured(fields[0].name) or metric is None or not is_measured(metric):
        return fields, None
    named = _OF_SENTENCE.fullmatch(fields[0].name)
    if named is None:
        return fields, None
    return [Field(metric, fields[0].value)], named[1]


def _fields(text: str) -> tuple[list[Field], list[str]]:
    """The fields of a line, and the segments that are none."""
    fields: list[Field] = []
    words: list[str] = []
    segments = [segment.strip(" :.-") for segment in _SEPARATOR.split(_GAP.sub(" ", text))]
    # `[train] loss=2.3, [valid] loss=2.4`
    are_split = len({split for segment in segments if (split := split_word(segment)) is not None}) > 1
    above = ""
    for segment in segments:
        if are_split and split_word(segment) is not None:
            above = f"{segment} "
            continue
        whole = _SEGMENT.match(segment)
        pairs = _PAIR.findall(segment)
        if whole and (whole[2].strip() or _ends_in_a_metric(whole[1])):
            pairs = [(whole[1], whole[3], whole[4])]
        elif (
            not pairs
            and (many := _NAMED.findall(segment))
            and (all(_ends_in_a_metric(name) for name, _ in many) or _are_pairs(segment, many))
        ):
            # `train loss 3.1 val loss 3.3`
            pairs = [(name, number, "") for name, number in many]
        elif segment and not _OF_BEST.match(segment):
            words.append(_PAIR.sub("", segment).strip() if pairs else segment)
        for name, number, percent in pairs:
            if fields and split_word(name) is not None and is_measured(fields[-1].name):
                # `loss train: 2.31, val: 2.40`
                name = f"{name} {read_name(fields[-1].name).quantity}"
            fields.append(Field(f"{above}{name.strip()}", _scaled(number, percent)))
    return fields, [word for word in words if re.search(r"[^\W\d]", word)]


def _are_pairs(segment: str, many: Sequence[tuple[str, str]]) -> bool:
    """Whether a text is nothing but names and numbers, and one is measured: `step-time 0.67 perplexity 13.5`."""
    return (
        len(many) > 1
        and " ".join(part for pair in many for part in pair) == " ".join(segment.split())
        and any(_ends_in_a_metric(name) for name, _ in many)
    )


def _ends_in_a_metric(name: str) -> bool:
    """Whether a number may follow a name without a sign between: `val loss 2.4`, not `loss improved 2.4`."""
    last = name.split()[-1]
    return is_measured(last) or split_word(last) is not None


def _scaled(text: str, percent: str) -> float:
    return (as_float(text) or 0.0) / (100 if percent else 1)


def _said(row: Row, words: str, whole: str) -> Row:
    """What the words of a line say of all its fields: split and dataset."""
    splits = {split for word in re.findall(r"[^\W\d_]+", words) if (split := _line_split(word)) is not None}
    if _OF_EVALUATION.search(words):
        splits = {"eval"}
    marked = {split for item in row.fields if is_measured(item.name) and (split := read_name(item.name).split)}
    if len(splits) == 1:
        row.split = next(iter(splits))
    elif (
        not splits
        and _OF_TRAINING.search(whole)
        and (not marked & {"eval", "test"} or any(is_plain_loss(item.name) for item in row.fields))
    ):
        row.split = "train"
    elif not splits and marked == {"eval"} and not any(is_plain_loss(item.name) for item in row.fields):
        # `perplexity: 21.3 eval_loss: 3.06`: both of the evaluation.
        row.split = "eval"
    if row.split in ("eval", "test"):
        named = _OF_A_SET.search(words)
        if named and named[1].lower() not in _NO_SET and split_word(named[1]) is None:
            row.dataset = named[1]
    row.words = " ".join(re.findall(r"[^\W\d_]{2,}|rank\d+", words.lower()))
    return row


def _line_split(word: str) -> Split | None:
    lower = word.lower()
    return "eval" if lower in ("validate", "validating", "evaluating", "evaluate") else split_word(lower)


def is_plain_loss(name: str) -> bool:
    read = read_name(name)
    return read.quantity == "loss" and read.split is None
