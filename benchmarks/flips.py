"""One damage a time in a file of a finished study, then what a user would do: found, harmless, or a defect.

python -m benchmarks.flips [--quick] [--tries 200] [--seed 0] [--kind KIND,KIND] [--first 0] [--kept FOLDER]

With `--kept` the study and what is expected of it stay in a folder, for a run that goes on from try `--first`.

A damage is a flipped bit (half of them), a byte that is replaced, a file cut short, one that grew, or 4 KiB of zeros.
Kinds of files take turns, so that small ones are hit as often as large ones. Then export, show, compare, check, report,
verify, diagnose, prepare, evaluate (with the scores of the run taken away), export again and train (four steps more),
as far as they read files of that kind. Verdicts:

    found            an error that names it (exit 2 or 3, no traceback), or a note, and numbers that are the right ones
    harmless         every output is that of the untouched study, to the bit
    another number   a defect
    crash            a defect: a traceback, exit 70, a signal, or no end
    missed           a defect: `lossary verify` finds nothing, though the file carries numbers

The last line is the number of defects; the exit code is 1 if there are any.
"""

import hashlib
import json
import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from benchmarks.common import arguments, clock, temporary_folder
from benchmarks.small_study import RUNS, STEPS, write_study
from benchmarks.warm import Done, Warm

_MORE = STEPS + 4
_PAGE = 4096
_DAMAGES = {"bit": 10, "byte": 4, "cut": 2, "grown": 2, "page": 2}
# Kinds by what their paths look like, and whether numbers rest on them.
_KINDS = {
    "tokenizer": (r"tokenizer/spiece\.model", True),
    "manifests": (r".*/manifest\.json", True),
    "shards": (r"prepared/.*/documents-.*\.arrow", True),
    "spans": (r"prepared/.*/spans-.*\.arrow", True),
    "validation": (r"validation/.*\.arrow", True),
    "weights": (r"runs/.*/model\.safetensors", True),
    "moments": (r"runs/.*/optimizer\.safetensors", True),
    "state": (r"runs/.*/state\.json", True),
    "config, vocabulary": (r"runs/.*/(config\.json|spiece\.model)", True),
    "run.json": (r"runs/[^/]*/run\.json", True),
    "steps": (r"runs/[^/]*/steps\.parquet", True),
    "scores": (r"runs/[^/]*/scores/.*\.parquet", True),
    "seals": (r"runs/.*\.parquet|.*/(manifest|run|state)\.json", True),
    "diagnosis": (r"diagnosis/[^/]*", True),
    "traces": (r"diagnosis/traces/(questions|answers)/.*", True),
    "report": (r"report/.*", False),
    "made.toml": (r"made\.toml", False),
}
# Tables and pages read nothing of these; nor do prepare, evaluate and train of those.
_NOT_SHOWN = ("weights", "moments", "config, vocabulary", "traces")
_NOT_WORKED_WITH = ("report", "diagnosis", "traces")
_SEAL = re.compile(rb'"?lossary[.-](?:seal|crc32:[0-9a-f]{8})|"checksum": "blake2b:[0-9a-f]{32}"')
_TIME = re.compile(r" · \d+ s of CPU")
_DIAGNOSE = ("diagnose", *RUNS, "--check", "forward", "-q")


class Damage(NamedTuple):
    """What was done to which file."""

    kind: str
    path: str
    what: str

    @property
    def run(self) -> str | None:
        parts = Path(self.path).parts
        return parts[1] if parts[0] == "runs" else None


@dataclass
class Tour:
    """What commands said and made, in order."""

    ended: dict[str, Done] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)


class Study:
    """A finished study, and copies of it at one path."""

    def __init__(self, warm: Warm, folder: Path) -> None:
        self.warm, self.whole, self.copy = warm, folder / "whole", folder / "study"
        if self.whole.is_dir():
            return
        write_study(self.copy)
        for words in (("run", "-q"), _DIAGNOSE, ("report",)):
            done = warm.run(*words, str(self.copy))
            if done.code not in (0, 1):
                sys.exit(f"{words}: {done.stdout}{done.stderr}")
        shutil.rmtree(self.copy / "logs")
        self.copy.rename(self.whole)

    def fresh(self) -> Path:
        """A new copy, whose files keep their times."""
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.whole, self.copy)
        return self.copy

    def files(self, kind: str) -> list[str]:
        names = sorted(str(path.relative_to(self.whole)) for path in self.whole.rglob("*") if path.is_file())
        return [name for name in names if re.fullmatch(_KINDS[kind][0], name)]

    def tour(self, run: str, damage: Damage | None = None, *, without_newest: bool = False) -> Tour:
        """What a user does, on the copy as it is; what depends on a run is done with one."""
        tour, root = Tour(), self.copy

        def command(name: str, *words: str) -> None:
            done = self.warm.run(*words)
            tour.ended[name] = done._replace(stdout=_TIME.sub("", done.stdout))

        command("verify", "verify", str(root), "-f", "json")
        kind = damage.kind if damage else None
        command("export", "export", str(root))
        if kind not in _NOT_SHOWN:
            command("show", "show", str(root))
            command("compare", "compare", *RUNS, str(root), "-f", "json")
            command("check", "check", str(root), "-f", "json")
            command("report", "report", str(root))
            tour.made["report"] = _report(root)
        if kind in (None, "tokenizer", "weights", "diagnosis", "traces"):
            command("diagnose", *_DIAGNOSE, str(root))
        if kind in _NOT_WORKED_WITH:
            return tour
        command("prepare", "prepare", str(root))
        tour.made["prepare"] = _prepared(root)
        for path in (root / "runs" / run / "scores").glob("*.parquet"):
            if damage is None or damage.path != str(path.relative_to(root)):
                path.unlink()
        command("evaluate", "evaluate", str(root), "--run", run)
        command("export again", "export", str(root))
        if without_newest:
            shutil.rmtree(root / "runs" / run / "checkpoints" / f"step-{STEPS:08d}")
        command("train", "train", str(root), "--run", run, "--set", f"recipe.steps={_MORE}")
        tour.made["train"] = _trained(root, run)
        return tour


def _report(root: Path) -> dict[str, str]:
    return {path.name: _digest(path) for path in sorted((root / "report").glob("*"))}


def _prepared(root: Path) -> dict[str, Any]:
    parts = ("tokenizer", "prepared", "validation")
    files = [path for part in parts for path in sorted((root / part).rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): _digest(path) for path in files if path.suffix != ".json"}


def _trained(root: Path, run: str) -> dict[str, Any]:
    checkpoint = root / "runs" / run / "checkpoints" / f"step-{_MORE:08d}"
    names = ("model.safetensors", "optimizer.safetensors")
    found: dict[str, Any] = {name: _digest(checkpoint / name) for name in names if (checkpoint / name).is_file()}
    if found:
        steps = pq.read_table(root / "runs" / run / "steps.parquet", use_threads=False)
        found["steps"] = _digest_text(str(steps.drop_columns(["elapsed_s"]).to_pylist()))
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def damage_file(root: Path, kind: str, name: str, rng: random.Random) -> Damage:
    """Damages a file of a study."""
    path = root / name
    before = path.read_bytes()
    data = bytearray(before)
    what = rng.choices(list(_DAMAGES), list(_DAMAGES.values()))[0]
    at = rng.randrange(len(data))
    if kind == "seals":
        what = rng.choice(["bit", "byte"])
        at = rng.choice([place for match in _SEAL.finditer(data) for place in range(*match.span())])
    if what == "bit":
        bit = rng.randrange(8)
        data[at] ^= 1 << bit
        told = f"bit {bit} of byte {at}"
    elif what == "byte":
        data[at] = (before[at] + rng.randrange(1, 256)) % 256
        told = f"byte {at}: {before[at]} became {data[at]}"
    elif what == "cut":
        del data[at:]
        told = f"cut after {at} bytes"
    elif what == "grown":
        more = rng.choice([1, 100, _PAGE])
        data += rng.randbytes(more)
        told = f"{more} bytes more"
    else:
        start = at // _PAGE * _PAGE
        data[start : start + _PAGE] = bytes(len(data[start : start + _PAGE]))
        told = f"zeros from byte {start}"
    if data == before:
        # Zeros where there were zeros.
        return damage_file(root, kind, name, rng)
    path.write_bytes(data)
    return Damage(kind, name, told)


class Verdict(NamedTuple):
    """What came of a damage, and by which command it showed."""

    word: str
    verify_found: bool
    detail: str


def judge(damage: Damage, found: Tour, expected: Tour, otherwise: Tour) -> Verdict:
    """`otherwise`: the tour of a study whose newest checkpoint is gone."""
    verified = found.ended["verify"].code == 3
    words: list[tuple[str, str]] = []
    for name, done in found.ended.items():
        if done.code in (70, 75) or done.code < 0 or "Traceback" in done.stdout + done.stderr:
            words.append(("crash", f"{name}: exit {done.code}: {done.stderr[-1500:]}"))
        elif done.code in (2, 3):
            words.append(("found", f"{name}: exit {done.code}: {done.stderr or done.stdout[:300]}"))
        else:
            words.append(_compare(damage, name, done, found, expected, otherwise))
        if name not in ("verify",) and words[-1][0] == "found" and not words[-1][1]:
            words[-1] = ("crash", f"{name}: exit {done.code} without a word")
    order = ["crash", "another number", "found", "harmless"]
    word, detail = min(words, key=lambda entry: order.index(entry[0]))
    if word in ("found", "harmless") and not verified and _KINDS[damage.kind][1]:
        return Verdict("missed", verified, f"{word}; {detail}")
    return Verdict(word, verified, detail)


def _compare(damage: Damage, name: str, done: Done, found: Tour, expected: Tour, otherwise: Tour) -> tuple[str, str]:
    passed_over = "train" in found.ended and "passed over" in found.ended["train"].stderr
    right = otherwise if passed_over and name == "train" else expected
    if name == "export again" and found.ended["evaluate"].code in (2, 3):
        # What it would have shown was never made; that was said.
        right = found
    made, wanted = (_without(tour.made.get(name), damage) for tour in (found, right))
    if name != "verify" and (done.stdout != right.ended[name].stdout or made != wanted):
        return (
            "another number",
            f"{name}: {_first_difference(done.stdout, right.ended[name].stdout)} {_differs(made, wanted)}",
        )
    told = done.stderr != expected.ended[name].stderr and name in ("train", "prepare") and "passed over" in done.stderr
    return ("found", f"{name}: {done.stderr}") if told else ("harmless", "")


def _without(made: Any, damage: Damage) -> Any:
    """What was made, but for the damaged file itself, where it stays as it is."""
    return {name: digest for name, digest in made.items() if name != damage.path} if made else made


def _first_difference(text: str, wanted: str) -> str:
    pairs = zip(text.splitlines(), wanted.splitlines(), strict=False)
    return next((f"{ours!r}, not {theirs!r}" for ours, theirs in pairs if ours != theirs), "length")


def _differs(made: Any, wanted: Any) -> str:
    if isinstance(made, Mapping) and isinstance(wanted, Mapping):
        return ", ".join(sorted(name for name in {*made, *wanted} if made.get(name) != wanted.get(name)))
    return ""


def main() -> None:
    """Damages, judges and prints the table."""
    options = arguments(__doc__, ("--tries", 200), ("--seed", 0), ("--kind", ""), ("--first", 0), ("--kept", ""))
    tries = 20 if options.quick else options.tries
    kinds = options.kind.split(",") if options.kind else list(_KINDS)
    began = clock()
    with nullcontext(options.kept) if options.kept else temporary_folder() as folder, Warm(*RUNS.values()) as warm:
        study = Study(warm, Path(folder))
        expected, otherwise = _known(study, Path(folder) / "expected.json")
        print(f"a study in {clock() - began:.0f} s, {sum(len(study.files(kind)) for kind in kinds)} files", flush=True)
        verdicts: dict[str, list[Verdict]] = {kind: [] for kind in kinds}
        for number in range(options.first, tries):
            rng = random.Random(f"{options.seed} {number}")
            kind = kinds[number % len(kinds)]
            files = study.files(kind)
            damage = damage_file(study.fresh(), kind, rng.choice(files), rng)
            run = damage.run or rng.choice(list(RUNS))
            verdict = judge(damage, study.tour(run, damage), expected[run], otherwise[run])
            verdicts[kind].append(verdict)
            print(f"{number:4} {verdict.word:15} {damage.path}: {damage.what}", flush=True)
            if verdict.word not in ("found", "harmless"):
                print(f"     {verdict.detail}", flush=True)
    sys.exit(_print_table(verdicts, clock() - began))


def _known(study: Study, path: Path) -> tuple[dict[str, Tour], dict[str, Tour]]:
    """The tours of an untouched study, from the file that keeps them if there is one."""
    if not path.is_file():
        path.write_text(json.dumps([{run: vars(tour) for run, tour in kind.items()} for kind in _references(study)]))
    expected, otherwise = (
        {
            run: Tour({name: Done(*done) for name, done in tour["ended"].items()}, tour["made"])
            for run, tour in kind.items()
        }
        for kind in json.loads(path.read_text())
    )
    return expected, otherwise


def _references(study: Study) -> tuple[dict[str, Tour], dict[str, Tour]]:
    """The tours of the untouched study, each twice: what differs between two of them cannot be compared."""
    expected, otherwise = {}, {}
    for run in RUNS:
        study.fresh()
        expected[run] = study.tour(run)
        study.fresh()
        again = study.tour(run)
        for name, done in expected[run].ended.items():
            bad = (
                done.code not in (0, 1)
                or (done.code == 1 and name not in ("check", "diagnose"))
                or (done.stdout != again.ended[name].stdout and name != "verify")
            )
            if bad or expected[run].made != again.made:
                sys.exit(f"the untouched study is not the same twice: {name} {done}\n{again.ended[name]}")
        study.fresh()
        otherwise[run] = study.tour(run, without_newest=True)
    return expected, otherwise


def _print_table(verdicts: Mapping[str, list[Verdict]], seconds: float) -> int:
    words = ("found", "harmless", "another number", "crash", "missed")
    print(f"\n| {'files':18} | damages | {' | '.join(words)} | verify finds |\n|---|" + "---:|" * (len(words) + 2))
    total: Counter[str] = Counter()
    for kind, found in verdicts.items():
        counts = Counter(verdict.word for verdict in found)
        verified = sum(verdict.verify_found for verdict in found)
        total += counts + Counter(damages=len(found), verified=verified)
        print(f"| {kind:18} | {len(found)} | {' | '.join(str(counts[word]) for word in words)} | {verified} |")
    print(f"| {'all':18} | {total['damages']} | {' | '.join(str(total[w]) for w in words)} | {total['verified']} |")
    defects = total["another number"] + total["crash"] + total["missed"]
    print(f"{seconds:.0f} s\ndefects={defects}")
    return int(defects > 0)


if __name__ == "__main__":
    main()
