"""kill −9 at random moments of prepare, train, evaluate and report, beside a second process on the same study.

python -m benchmarks.kills [--quick] [--kills 100] [--more 15] [--seed 0]

A small study, PyTorch beside TensorFlow, is made again and again. Each of its four commands is killed once on the way:
the command, its workers, or all of them at once. Shortly before, a second process is started with the same command: it
has to end with exit 75 and say who works, or to take over once the owner is dead. Then the command is given again, and
has to come to its end. At last `lossary run`, and the study is compared with one that nobody disturbed: tokenizer,
documents, spans, validation examples, weights, moments, steps and scores, byte for byte; `lossary verify` finds it
whole.

Then `--more` kills of what is not in such a course (benchmarks/eves.py): `evaluate --until decided`, `evaluate
--checkpoint` that makes views of another vocabulary, and the training of a run of two ranks. The command is given
again, and all files are those of an undisturbed one. With `--kills 0` nothing else is done.

Then two more ways to disturb one: a disk that fills up in each command (left out where no tmpfs can be mounted), and a
clock that was set back by an hour before each command.

The last line is the number of defects; the exit code is 1 if there are any.
"""

import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, get_args

import pyarrow.parquet as pq

from benchmarks.common import arguments, clock, temporary_folder
from benchmarks.eves import eves
from benchmarks.small_study import RUNS, write_study
from benchmarks.warm import Command, Warm, Who

_VERBS = ("prepare", "train", "evaluate", "report")
_PLACE = "study"
_HOUR_S = 3600
_LONELY_S = 5.0
_DISK_MB = 32


class Kill(NamedTuple):
    """What was killed, and what came of it."""

    verb: str
    who: Who
    hit: bool  # it lived
    rival: str
    defects: list[str]


def study_digests(root: Path) -> dict[str, str]:
    """All that must not depend on how a study came to its end."""
    found: dict[str, str] = {}
    for part in ("tokenizer", "prepared", "validation", "views", "runs"):
        for path in sorted((root / part).rglob("*")):
            name = str(path.relative_to(root))
            if "/." in name:
                continue
            if path.suffix in (".arrow", ".model", ".safetensors", ".jsonl") and path.is_file():
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            if path.suffix == ".parquet":
                table = pq.read_table(path, use_threads=False)
                kept = [column for column in table.column_names if column != "elapsed_s"]
                found[name] = hashlib.sha256(str(table.select(kept).to_pydict()).encode()).hexdigest()
    return found


def leftovers(root: Path) -> list[str]:
    """Temporary files that nobody will take away."""
    return [str(path.relative_to(root)) for path in root.rglob(".*") if path.name != ".lock"]


class Trial:
    """One study that is disturbed."""

    def __init__(self, warm: Warm, root: Path, seconds: dict[str, float], rng: random.Random) -> None:
        self.warm, self.root, self.seconds, self.rng = warm, root, seconds, rng

    def kill(self, verb: str) -> Kill:
        """Kills a command, with another one beside it; then gives it again."""
        # Reports have no workers, nor have preparations of a few rows.
        who = self.rng.choice(get_args(Who) if verb in ("train", "evaluate") else ("parent", "all"))
        at = self.rng.uniform(0, self.seconds[verb])
        began = clock()
        owner = self.warm.start(verb, str(self.root))
        beside = self.rng.uniform(0, at)
        _wait(owner, beside)
        rival = self.warm.start(verb, str(self.root))
        _wait(owner, at - beside)
        hit = owner.poll() is None and owner.kill(who) > 0
        if owner.poll() == 0:
            # Others leave more of the machine than they did: moments are drawn from a shorter time.
            self.seconds[verb] = min(self.seconds[verb], clock() - began)
        orphans = owner.workers
        defects = [f"{verb} {who} {text}" for text in self._ended(owner, killed=hit, who=who)]
        # While orphans may live still, and the rival works.
        again = self.warm.start(verb, str(self.root))
        told, wrong = self._rival(rival)
        defects += [f"rival of {verb}: {text}" for text in wrong]
        done = again.wait()
        if done.code == 75:
            # The rival took over before it.
            done = self.warm.run(verb, str(self.root))
        if done.code != 0:
            defects.append(f"{verb} again: exit {done.code}: {done.stderr[-600:]}")
        defects += [f"worker {pid} of a killed {verb} lives" for pid in orphans if _lives_on(pid)]
        return Kill(verb, who, hit, told, defects)

    def _ended(self, owner: Command, *, killed: bool, who: Who) -> Iterator[str]:
        done = owner.wait()
        if "Traceback" in done.stderr:
            yield f"traceback: {done.stderr[-600:]}"
        expected = {0, -9} if who != "workers" else {0, 3}
        # Whoever lost the race against the rival for the lease says so.
        if done.code not in (expected | {75} if killed else {0, 75}):
            yield f"exit {done.code}: {done.stderr[-600:]}"

    def _rival(self, rival: Command) -> tuple[str, list[str]]:
        done = rival.wait()
        if done.code == 75:
            named = "another process" in done.stderr and re.search(r"process \d+", done.stderr)
            return "exit 75", [] if named else [f"does not say who works: {done.stderr[-300:]}"]
        return ("done", []) if done.code == 0 else (f"exit {done.code}", [f"exit {done.code}: {done.stderr[-600:]}"])


def _wait(command: Command, seconds: float) -> None:
    until = time.monotonic() + seconds
    while command.poll() is None and time.monotonic() < until:
        time.sleep(0.002)


def _lives_on(pid: int) -> bool:
    until = time.monotonic() + _LONELY_S
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state == "Z":
            return False
        time.sleep(0.05)
    return True


def compare(warm: Warm, root: Path, expected: dict[str, str]) -> list[str]:
    """What is wrong with a study at its end."""
    done = warm.run("run", "-q", str(root))
    if done.code != 0:
        return [f"run: exit {done.code}: {done.stderr[-800:]}"]
    found = study_digests(root)
    wrong = [f"{name} differs" for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    verified = warm.run("verify", str(root))
    return wrong + ([f"verify: {verified.stdout}"] if verified.code else [])


def undisturbed(
    warm: Warm, root: Path, *, write: Callable[[Path], None] = write_study, finish: bool = False
) -> tuple[dict[str, str], dict[str, float]]:
    """What a study comes to, and how long its commands take; with `finish`, `run` comes last."""
    write(root)
    seconds = {}
    for verb in _VERBS:
        began = clock()
        done = warm.run(verb, str(root))
        if done.code:
            sys.exit(f"{verb}: {done.stderr}")
        seconds[verb] = clock() - began
    if finish:
        warm.run("run", "-q", str(root))
    return study_digests(root), seconds


@contextmanager
def small_disk(root: Path) -> Iterator[None]:
    """A file system of its own, of a few megabytes. OSError if none can be mounted."""
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(root)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise OSError(str(error)) from None
    if done.returncode:
        raise OSError(done.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)


def full_disk(
    warm: Warm, root: Path, expected: dict[str, str], rng: random.Random, *, begun: bool = False
) -> tuple[int, list[str]]:
    """Each command with too little space, at several amounts of it; then with enough. How often it ended for that.

    The study is written there, unless it is `begun`.
    """
    if not begun:
        write_study(root / _PLACE)
    ballast, defects, ended = root / "ballast", list[str](), 0
    for verb in _VERBS:
        for _ in range(3):
            with ballast.open("wb") as file:
                left = rng.choice([0, 0, rng.randrange(4_000), rng.randrange(400_000)])
                size = max(0, shutil.disk_usage(root).free - left)
                file.write(bytes(size))
            done = warm.run(verb, str(root / _PLACE))
            ballast.unlink()
            if done.code == 0:
                break
            ended += 1
            said = done.stderr.splitlines()
            told = next((number for number, line in enumerate(said) if line.startswith("lossary: ")), None)
            if (
                done.code != 3
                or told is None
                or "no space left" not in done.stderr.lower()
                or "Traceback" in done.stderr
            ):
                defects.append(f"{verb}, {left} bytes left: exit {done.code}: {done.stderr[-800:]}")
        done = warm.run(verb, str(root / _PLACE))
        if done.code:
            defects.append(f"{verb} with space again: exit {done.code}: {done.stderr[-800:]}")
    return ended, defects + compare(warm, root / _PLACE, expected)


def clock_back(
    warm: Warm, root: Path, expected: dict[str, str], *, write: Callable[[Path], None] = write_study
) -> list[str]:
    """Before each command, all that stands is an hour ahead of the clock; half of it is killed and given again."""
    write(root)
    defects = []
    for verb in _VERBS:
        killed = warm.start(verb, str(root))
        _wait(killed, 0.5)
        killed.kill()
        killed.wait()
        for path in [*root.rglob("*"), root]:
            status = path.stat()
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + _HOUR_S * 10**9))
        done = warm.run(verb, str(root))
        if done.code:
            defects.append(f"{verb}: exit {done.code}: {done.stderr[-800:]}")
    return defects + compare(warm, root, expected)


def main() -> None:
    """Kills, compares and prints the table."""
    options = arguments(__doc__, ("--kills", 100), ("--more", 15), ("--seed", 0))
    rounds = max(int(options.quick), (8 if options.quick else options.kills) // len(_VERBS))
    began, defects = clock(), list[str]()
    kills: list[Kill] = []
    with temporary_folder() as place, Warm(*RUNS.values()) as warm:
        folder = Path(place)
        if rounds:
            courses = _kill_in_courses(warm, folder, rounds, options.seed)
            kills += courses
            defects += [text for kill in courses for text in kill.defects]
        more = _kill_others(warm, folder / "eves", 3 if options.quick else options.more, random.Random(options.seed))
        kills += more
        defects += [text for kill in more for text in kill.defects]
    _print_table(kills)
    print(f"{clock() - began:.0f} s\ndefects={len(defects)}")
    sys.exit(int(bool(defects)))


def _kill_in_courses(warm: Warm, folder: Path, rounds: int, seed: int) -> list[Kill]:
    """Kills each command of as many studies; then a full disk and a clock that goes back, told with the last kill."""
    kills: list[Kill] = []
    expected, seconds = undisturbed(warm, folder / _PLACE)
    print(" ".join(f"{verb} {took:.1f} s" for verb, took in seconds.items()), flush=True)
    left: Counter[str] = Counter()
    for number in range(rounds):
        shutil.rmtree(folder / _PLACE)
        write_study(folder / _PLACE)
        trial = Trial(warm, folder / _PLACE, seconds, random.Random(f"{seed} {number}"))
        of_round = [trial.kill(verb) for verb in _VERBS]
        said = [text for kill in of_round for text in kill.defects]
        wrong = compare(warm, folder / _PLACE, expected)
        lost = leftovers(folder / _PLACE)
        left.update(re.sub(r"[0-9a-f]{12}", "…", name) for name in lost)
        # Small ones of pages stay; those of data might be large.
        wrong += [f"{name} is left" for name in lost if name.startswith(("prepared/", "validation/", "runs/"))]
        kills += of_round
        of_round[-1].defects.extend(wrong)
        told = ", ".join(f"{kill.verb}: {kill.who}{'' if kill.hit else ' (done)'}" for kill in of_round)
        print(f"{number:3} {told}: {'; '.join(said + wrong) or 'equal'}", flush=True)
    print(f"leftovers: {dict(left) or 'none'}")
    kills[-1].defects.extend(_more(warm, folder, expected, random.Random(seed)))
    return kills


def _kill_others(warm: Warm, folder: Path, count: int, rng: random.Random) -> list[Kill]:
    """As many kills of commands that are not in the course of a study, in turns."""
    if not count:
        return []
    folder.mkdir()
    kills = []
    for number, eve in enumerate(eves(warm, folder, study_digests)):
        for _ in range(number, count, 3):
            who, hit, defects = eve.kill(rng)
            wrong = defects + [f"{name} is left" for name in leftovers(folder / "killed") if name.startswith("runs/")]
            kills.append(Kill(eve.name, who, hit, "", wrong))
            print(f"{eve.name}: {who}{'' if hit else ' (done)'}: {'; '.join(wrong) or 'equal'}", flush=True)
    return kills


def _more(warm: Warm, folder: Path, expected: dict[str, str], rng: random.Random) -> list[str]:
    """A full disk and a clock that goes back."""
    defects = []
    try:
        with small_disk(folder / "disk"):
            ended, wrong = full_disk(warm, folder / "disk", expected, rng)
        print(f"full disk: {ended} commands ended for it: {'; '.join(wrong) or 'equal'}", flush=True)
        defects += wrong
    except OSError as error:
        print(f"full disk: left out, {error}")
    wrong = clock_back(warm, folder / "clock", expected)
    print(f"clock an hour back before each command: {'; '.join(wrong) or 'equal'}", flush=True)
    return defects + wrong


def _print_table(kills: list[Kill]) -> None:
    print("\n| command | kills | command alone | its workers | all | it was done | rivals: exit 75 | done | defects |")
    print("|---|" + "---:|" * 8)
    for verb in (*dict.fromkeys([*_VERBS, *(kill.verb for kill in kills)]), "all"):
        of_verb = [kill for kill in kills if verb in (kill.verb, "all")]
        hit = Counter(kill.who for kill in of_verb if kill.hit)
        rivals = Counter(kill.rival for kill in of_verb)
        counts = [len(of_verb), *(hit[who] for who in ("parent", "workers", "all")), sum(not k.hit for k in of_verb)]
        counts += [rivals["exit 75"], rivals["done"], sum(len(kill.defects) for kill in of_verb)]
        print(f"| {verb} | {' | '.join(map(str, counts))} |")


if __name__ == "__main__":
    main()
