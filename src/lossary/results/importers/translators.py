"""Lines of programs that train translators and language models with forms of their own: Marian and Sockeye."""

import re

from lossary.results.importers.logline import Field, Row, State

__all__ = ["is_of_translator", "translator_row"]

_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf|NaN|Infinity)"
# Marian's: `[valid] Ep. 2 : Up. 5000 : perplexity : 11.1 : new best`, `Ep. 1 : Up. 500 : Sen. 40,611 : Cost 8.8 : …`
_MARIAN = re.compile(
    r"(?:\[valid\] )?Ep\. \d+ : Up\. (\d+) : (?:Sen\. [^:]+ : (Cost)|([\w-]+) :) " rf"({_NUMBER})( \*)?"
)
_MARIAN_SETS = re.compile(r"\[config\] cost-type: ce-mean-words\b")
_BY_SENTENCE = "Marian's is a mean over sentences, not over words; its perplexity and ce-mean-words are read"
# Sockeye's: `Checkpoint [3] Updates=3000 Epoch=0`, then `Checkpoint [3] Validation-perplexity=19.25`; the lines of
# batches have means since the last checkpoint.
_SOCKEYE = re.compile(
    rf"Checkpoint \[(\d+)\]\s+(?:Updates=(\d+)|((?:Train|Validation)-[\w\-]+)=({_NUMBER}))"
    r"|\] Epoch\[\d+\] Batch \[\d+\]\s+Speed: (.)|\] Validation-[\w\-]+ (?:has not )?(improved) "
)


def is_of_translator(line: str) -> bool:
    """Whether a line is of one of these programs."""
    return "[config] cost-type" in line or any(form.search(line) for form in (_MARIAN, _SOCKEYE))


def translator_row(line: str, number: int, state: State) -> Row | None:
    """The row of a line that is one of theirs; None where it only says something of others."""
    if "[config] cost-type" in line:
        state.is_cost_a_word = _MARIAN_SETS.search(line) is not None
        return None
    if (said := _MARIAN.search(line)) is not None:
        return _marian_row(said, number, state)
    said = _SOCKEYE.search(line)
    return None if said is None else _sockeye_row(said, number, state)


def _sockeye_row(said: re.Match[str], number: int, state: State) -> Row | None:
    """A line of Sockeye's: a metric of a checkpoint, at the updates that the line before said."""
    if said[2]:
        state.updates[said[1]] = int(said[2])
    if not said[3]:
        state.told.add(number)
        return None
    step = state.updates.get(said[1])
    return None if step is None else Row(line=number, fields=[Field(said[3], float(said[4]))], step=step)


def _marian_row(said: re.Match[str], number: int, state: State) -> Row:
    """A line of Marian's: by default its costs are means over sentences, and `Cost 4.2 * 900` is of a word."""
    name, is_of_word = (
        (said[3], said[3] != "cross-entropy") if said[3] else ("Cost", state.is_cost_a_word or bool(said[5]))
    )
    is_sum = name.startswith("ce-") and name != "ce-mean-words"
    shown = f"valid {name}" if said[3] else "train loss"
    field_ = Field(shown, float(said[4]), None if is_of_word and not is_sum else _BY_SENTENCE)
    return Row(line=number, fields=[field_], step=int(said[1]))
