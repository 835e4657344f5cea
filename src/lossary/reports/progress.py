"""Progress in words, the same on the terminal and in the dashboard: how far a run is, who works, how it ended."""

from datetime import UTC, datetime

from lossary.lease import Holder
from lossary.reports.text import plain
from lossary.results.endings import Ending
from lossary.results.progress import RunProgress

__all__ = ["duration", "ending_text", "holder_text", "killed_text", "moment", "progress_text", "state_word"]

_STAGES = {"prepare": "prepares", "train": "trains", "evaluate": "scores", "time": "times steps of"}


def moment(seconds: float) -> str:
    """A time since 1970, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return "at an unknown time"


def duration(seconds: float) -> str:
    """`3 s`, `2 min 05 s`, `1 h 02 min`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def progress_text(run: RunProgress) -> str:
    """How far a run is."""
    parts = [f"step {run.step:,} of {run.steps:,}"]
    if run.tokens:
        parts.append(f"{run.tokens:,} tokens")
    if run.state == "training" and run.tokens_per_s:
        parts.append(f"{run.tokens_per_s:,.0f} tokens/s")
    if run.left_s is not None:
        parts.append(f"{duration(run.left_s)} left")
    if run.scored:
        parts.append(f"scored at step {run.scored[-1]:,}")
    return ", ".join(parts)


def state_word(run: RunProgress) -> str:
    """What a run does or, where nobody works on it, how it ended."""
    if run.ending is not None:
        return "interrupted" if run.ending.is_interruption else "failed"
    return "killed" if run.killed else run.state


def holder_text(holder: Holder) -> str:
    """Who works on what since when."""
    verb = _STAGES.get(holder.doing, "works on")
    what = f"{verb} the study's data" if holder.run is None else f"{verb} run {holder.run}"
    what = "prepares the study" if holder.doing == "prepare" else what
    who = f"process {holder.pid} of {holder.user} on {holder.host}"
    return plain(f"{who} {what} since {moment(holder.since)}: {holder.command}")


def ending_text(ending: Ending) -> str:
    """How a stage of a run ended."""
    how = "interrupted" if ending.is_interruption else f"failed to {ending.stage}"
    where = f"{ending.where}: " if ending.where else ""
    log = f" (log: {ending.log})" if ending.log else ""
    message = " ".join(ending.message.split())
    return plain(f"{how} {moment(ending.time)}: {where}{message}{log}")


def killed_text(holder: Holder) -> str:
    """Whose process is gone without a word."""
    who = f"process {holder.pid} of {holder.user} on {holder.host}"
    return plain(f"{who} ended without giving it back, last sign of life {moment(holder.seen)}: {holder.command}")
