"""Studies on the eve of a command, which is killed at random moments: what it makes in the end has to be the same.

    for eve in eves(warm, folder, study_digests):
        who, hit, defects = eve.kill(rng)

Beside the commands of a whole study (benchmarks/kills.py): an evaluation that stops early, views of another vocabulary,
and the training of a run of two ranks.
"""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.small_study import write_study
from benchmarks.vocabularies import trained
from benchmarks.warm import Warm, Who

__all__ = ["Eve", "eves", "save_checkpoint"]

Digests = Callable[[Path], dict[str, str]]
_RANKS = ('backend = "torch"\n', 'backend = "torch"\nranks = 2\n')


@dataclass(frozen=True, kw_only=True)
class Eve:
    """A study before a command, what it comes to if nobody disturbs it, and in how many seconds."""

    name: str
    warm: Warm
    root: Path
    command: tuple[str, ...]
    digests: Digests
    expected: dict[str, str]
    seconds: float

    def kill(self, rng: random.Random) -> tuple[Who, bool, list[str]]:
        """Kills the command in a copy, gives it again: who was killed, whether it lived, and what is wrong then."""
        place = self.root.with_name("killed")
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.root, place)
        who = rng.choice(("all", "parent", "workers"))
        owner = self.warm.start(*self.command, str(place))
        until = time.monotonic() + rng.uniform(0, self.seconds)
        while owner.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        hit = owner.poll() is None and owner.kill(who) > 0
        first = owner.wait()
        defects = [f"traceback: {first.stderr[-600:]}"] if "Traceback" in first.stderr else []
        done = self.warm.run(*self.command, str(place))
        if done.code:
            return who, hit, [*defects, f"{self.name} again: exit {done.code}: {done.stderr[-600:]}"]
        found = self.digests(place)
        defects += [
            f"{name} differs" for name in sorted({*found, *self.expected}) if found.get(name) != self.expected.get(name)
        ]
        verified = self.warm.run("verify", str(place))
        return who, hit, defects + ([f"verify: {verified.stdout}"] if verified.code else [])


def eves(warm: Warm, folder: Path, digests: Digests) -> Iterator[Eve]:
    """The three of them, each made in a folder of its own."""
    scored = folder / "scored"
    write_study(scored)
    _run(warm, "prepare", scored)
    _run(warm, "train", scored)
    _run(warm, "evaluate", "--run", "torch_a", scored)
    decided = ("evaluate", "--until", "decided", "--base", "torch_a", "--run", "tf_a", "--within", "0.5")
    yield _eve(warm, "evaluate --until decided", scored, decided, digests)
    model = folder / "model"
    make = f"from benchmarks.eves import save_checkpoint; save_checkpoint({str(scored)!r}, {str(model)!r})"
    # Whoever forks commands loads no framework.
    subprocess.run([sys.executable, "-c", make], check=True)
    yield _eve(warm, "views", scored, ("evaluate", "--checkpoint", str(model), "--name", "other"), digests)
    ranks = folder / "ranks"
    write_study(ranks)
    text = (ranks / "study.toml").read_text()
    (ranks / "study.toml").write_text(text.replace(*_RANKS))
    _run(warm, "prepare", ranks)
    yield _eve(warm, "train, 2 ranks", ranks, ("train", "--run", "torch_a"), digests)


def _eve(warm: Warm, name: str, root: Path, command: tuple[str, ...], digests: Digests) -> Eve:
    undisturbed = root.with_name("undisturbed")
    shutil.rmtree(undisturbed, ignore_errors=True)
    shutil.copytree(root, undisturbed)
    began = time.monotonic()
    _run(warm, *command, undisturbed)
    seconds = time.monotonic() - began
    return Eve(
        name=name,
        warm=warm,
        root=root,
        command=command,
        digests=digests,
        expected=digests(undisturbed),
        seconds=seconds,
    )


def _run(warm: Warm, *command: str | Path) -> None:
    done = warm.run(*map(str, command))
    if done.code:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.code}: {done.stderr}")


def save_checkpoint(root: str, folder: str) -> None:
    """A masked model of transformers with a vocabulary of its own, trained on nothing; for a process of its own."""
    import transformers

    lines = [line for path in sorted(Path(root).glob("*.jsonl")) for line in path.read_text().splitlines()]
    tokenizer = trained("WordPiece", lines)
    names = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    transformers.set_seed(0)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
