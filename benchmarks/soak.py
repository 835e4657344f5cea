"""Everything that goes wrong with machines, in turns until the time is over: what was tried, and what was lost.

python -m benchmarks.soak [--quick] [--minutes 20] [--seed 0] [--only NAME,NAME]

A small study of PyTorch is made again and again while something is done to it. Then the command is given again, and the
study is compared with one that nobody disturbed: tokenizer, documents, spans, validation examples, weights, moments,
steps and scores, byte for byte; `lossary verify` finds it whole. A damage has to be said, or every output is right.
Scenarios take turns; nodes of a Ray cluster come last, in a third of the time, and not with `--quick`.

The last line is the number of defects; the exit code is 1 if there are any. `benchmarks.kills` and `benchmarks.flips`
look longer at two of these.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import flips, kills
from benchmarks.common import arguments, clock, temporary_folder
from benchmarks.small_study import write_study
from benchmarks.warm import Warm

_RUN = "torch_a"
_VERBS = ("prepare", "train", "evaluate", "report")
_SHARE_OF_RAY = 0.35
_PATIENCE_S = 240
# Of a head that is gone for good Ray waits for minutes by itself: the command is ended by hand.
_WITHOUT_HEAD_S = 45


@dataclass
class Tally:
    """What came of one kind of fault."""

    tried: int = 0
    struck: int = 0  # it met work that was going on, or a file that is read
    defects: list[str] = field(default_factory=list)
    last_s: float = 0.0


@dataclass
class Soak:
    """A study as it should be, and a folder to disturb others in."""

    folder: Path
    rng: random.Random
    warm: Warm | None
    expected: dict[str, str] = field(default_factory=dict)
    # Processes that start as a user's do round otherwise than forks: MKL looks at its settings at the start.
    expected_cold: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    text: str = ""
    number: int = 0

    def root(self) -> Path:
        """A place for one more study. All go by one path, which some files hold."""
        shutil.rmtree(self.folder / "study", ignore_errors=True)
        self.number += 1
        return self.folder / "study"

    def new(self) -> Path:
        """A study that nothing is made of yet."""
        root = self.root()
        write(root)
        return root

    def whole(self) -> Path:
        """A study that is made."""
        root = self.root()
        shutil.copytree(self.folder / "whole", root)
        return root

    def compare(self, root: Path) -> list[str]:
        """What is wrong with a study at its end."""
        assert self.warm is not None
        return kills.compare(self.warm, root, self.expected)


def cold(*words: str, **more: str) -> "subprocess.Popen[str]":
    """A command as a user starts it, leader of a process group."""
    return subprocess.Popen(
        [sys.executable, "-m", "lossary", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def differences(root: Path, expected: dict[str, str]) -> list[str]:
    """Files that are not as they should be, and what `verify` finds."""
    found = kills.study_digests(root)
    verified = cold("verify", str(root))
    said, _ = verified.communicate()
    wrong = [f"{name} differs" for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    return wrong + ([f"verify: {said[-300:]}"] if verified.returncode else [])


def write(root: Path) -> None:
    """The small study, with its run of PyTorch alone."""
    write_study(root)
    file = root / "study.toml"
    file.write_text(file.read_text().split("[runs.tf_a]")[0])


def killed(soak: Soak) -> tuple[bool, list[str]]:
    """kill −9 of a command, its workers or both, with a second process beside it."""
    assert soak.warm is not None
    root, verb = soak.new(), soak.rng.choice(_VERBS)
    for before in _VERBS[: _VERBS.index(verb)]:
        soak.warm.run(before, str(root))
    found = kills.Trial(soak.warm, root, soak.seconds, soak.rng).kill(verb)
    return found.hit, found.defects + soak.compare(root)


def full_disk(soak: Soak) -> tuple[bool, list[str]]:
    """No space left in each command, at several amounts of it."""
    assert soak.warm is not None
    place = soak.root()
    with kills.small_disk(place):
        write(place / "study")
        ended, defects = kills.full_disk(soak.warm, place, soak.expected, soak.rng, begun=True)
    return ended > 0, defects


def read_only(soak: Soak) -> tuple[bool, list[str]]:
    """A file system that becomes read-only: what shows works, what makes says why not, nothing is lost."""
    assert soak.warm is not None
    place, defects = soak.root(), []
    with kills.small_disk(place):
        write(place / "study")
        done = _VERBS[: soak.rng.randrange(len(_VERBS))]
        for verb in done:
            soak.warm.run(verb, str(place / "study"))
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        for verb, codes in (("status", {0}), (_VERBS[len(done)], {3}), ("show", {0} if len(done) > 2 else {2, 3})):
            found = soak.warm.run(verb, str(place / "study"))
            if found.code not in codes or "Traceback" in found.stderr:
                defects.append(f"{verb}: exit {found.code}: {found.stderr[-300:]}")
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        defects += soak.compare(place / "study")
    return True, defects


def clock_back(soak: Soak) -> tuple[bool, list[str]]:
    """All that stands is an hour ahead of the clock, half of it killed."""
    assert soak.warm is not None
    return True, kills.clock_back(soak.warm, soak.root(), soak.expected, write=write)


def damaged(soak: Soak) -> tuple[bool, list[str]]:
    """A bit, a byte, a page or the end of a file: kinds of files take turns."""
    assert soak.warm is not None
    kinds = [kind for kind in flips._KINDS if kind not in ("diagnosis", "traces")]
    kind, root = kinds[soak.number % len(kinds)], soak.whole()
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
    pattern, carries = flips._KINDS[kind]
    found = flips.damage_file(
        root, kind, soak.rng.choice([name for name in names if re.fullmatch(pattern, name)]), soak.rng
    )
    verified = soak.warm.run("verify", str(root)).code == 3
    defects = [f"verify finds nothing: {found}"] if carries and not verified else []
    for verb in ("export", "run"):
        done = soak.warm.run(verb, str(root))
        if done.code not in (0, 2, 3) or "Traceback" in done.stderr:
            defects.append(f"{verb}: exit {done.code}: {found}: {done.stderr[-300:]}")
        elif done.code == 0 and verb == "export" and done.stdout != soak.text:
            defects.append(f"{verb} says something else: {found}")
    if done.code == 0:
        made = kills.study_digests(root)
        wrong = [name for name in soak.expected if name != found.path and made.get(name) != soak.expected[name]]
        defects += [f"{name} differs: {found}" for name in wrong]
    return verified, defects


def cut_checkpoint(soak: Soak) -> tuple[bool, list[str]]:
    """The newest checkpoint is cut short, and its scores are gone: training goes on from the one before."""
    root = soak.whole()
    newest = sorted((root / "runs" / _RUN / "checkpoints").iterdir())[-1]
    path = newest / soak.rng.choice(["model.safetensors", "optimizer.safetensors", "state.json", "config.json"])
    os.truncate(path, soak.rng.randrange(path.stat().st_size))
    shutil.rmtree(root / "runs" / _RUN / "scores")
    return True, soak.compare(root)


def failing_store(soak: Soak) -> tuple[bool, list[str]]:
    """A study on S3 whose answers fail, stall or break off; the command is killed, and given again, half of the time on
    a machine that has nothing of it."""
    command = [sys.executable, "-m", "tests.s3_server"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        address = f"http://127.0.0.1:{int(server.stdout.readline())}"
        urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT")).close()
        more = {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "us-east-1",
        }
        url, root = "s3://bucket/study", soak.new()
        caches = [str(soak.folder / f"cache-{soak.number}-{name}") for name in "ab"]

        def run(*words: str, cache: str) -> "subprocess.Popen[str]":
            return cold(*words, **more, XDG_CACHE_HOME=cache)

        run("push", str(root), url, cache=caches[0]).communicate()
        urllib.request.urlopen(f"{address}/_faults/{soak.rng.choice(['error', 'stall', 'broken'])}/4").close()
        first = run("run", url, "-q", cache=caches[0])
        time.sleep(soak.rng.uniform(1, 20))
        struck = first.poll() is None
        if struck:
            os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
        again = run("run", url, "-q", cache=soak.rng.choice(caches))
        said, _ = again.communicate(timeout=_PATIENCE_S)
        defects = [f"again: exit {again.returncode}: {said[-500:]}"] if again.returncode else []
        urllib.request.urlopen(f"{address}/_faults/none/1").close()
        shutil.rmtree(root)
        run("pull", url, str(root), cache=caches[1]).communicate()
        for cache in caches:
            shutil.rmtree(cache, ignore_errors=True)
        return struck, defects + differences(root, soak.expected_cold)
    finally:
        server.kill()
        server.communicate()


class Nodes:
    """A Ray cluster on this machine: a head that takes no work, and a node that is lost."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from ray.cluster_utils import Cluster

            self.cluster: Any = Cluster(
                initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
            )
            self.node = self.cluster.add_node(num_cpus=1)

    def command(self, verb: str, root: Path) -> "subprocess.Popen[str]":
        address = f'engine.address="{self.cluster.address}"'
        return cold(verb, str(root), "--engine", "ray", "--set", address)

    def undisturbed(self, root: Path) -> dict[str, str]:
        """What a study comes to on the cluster."""
        said, _ = self.command("run", root).communicate(timeout=_PATIENCE_S)
        found = kills.study_digests(root)
        return found if any(name.endswith(".safetensors") for name in found) else sys.exit(said)

    def hurt(self, soak: Soak, verb: str, *, head: bool) -> tuple[bool, list[str]]:
        """Loses the node, or the whole cluster with its head, while a command works; gives it again if it ended."""
        root, defects = soak.new(), []
        for before in _VERBS[: _VERBS.index(verb)]:
            self.command(before, root).communicate(timeout=_PATIENCE_S)
        command = self.command(verb, root)
        time.sleep(soak.rng.uniform(3, 14))
        struck = command.poll() is None
        if head:
            self.cluster.shutdown()
            self.begin()
        else:
            self.cluster.remove_node(self.node, allow_graceful=False)
            self.node = self.cluster.add_node(num_cpus=1)
        try:
            said, _ = command.communicate(timeout=_WITHOUT_HEAD_S if head else _PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(command.pid, signal.SIGKILL)
            said, _ = command.communicate()
            defects += [] if head else [f"{verb} does not end: {said[-300:]}"]
        if "Traceback" in said and not head:
            defects.append(f"{verb}: {said[-500:]}")
        again = self.command("run", root)
        said, _ = again.communicate(timeout=_PATIENCE_S)
        defects += [f"{verb} again: exit {again.returncode}: {said[-500:]}"] if again.returncode else []
        return struck, defects + differences(root, soak.expected_cold)


def take_turns(
    soak: Soak, scenarios: dict[str, Callable[[Soak], tuple[bool, list[str]]]], until: float, least: int
) -> dict[str, Tally]:
    """Each `least` times at the least, then for as long as there is time."""
    tallies = {name: Tally() for name in scenarios}
    while True:
        for name, scenario in scenarios.items():
            tally = tallies[name]
            if tally.tried >= least and clock() + tally.last_s > until:
                return tallies
            began = clock()
            try:
                struck, wrong = scenario(soak)
            except OSError as error:
                print(f"{name}: left out, {error}", flush=True)
                continue
            tally.tried, tally.struck, tally.last_s = tally.tried + 1, tally.struck + struck, clock() - began
            tally.defects += wrong
            print(f"{name:28} {tally.last_s:5.1f} s  {'; '.join(wrong) or 'equal'}", flush=True)
        if not any(tally.tried for tally in tallies.values()):
            return tallies


def main() -> None:
    """Takes turns and prints the table."""
    options = arguments(__doc__, ("--minutes", 20.0), ("--seed", 0), ("--only", ""))
    minutes = 1.0 if options.quick else options.minutes
    began = clock()
    local = {
        "kill −9, two processes": killed,
        "full disk": full_disk,
        "read-only folder": read_only,
        "clock an hour back": clock_back,
        "damaged file": damaged,
        "checkpoint cut short": cut_checkpoint,
    }
    if find_spec("moto") is not None:
        local["object store failing"] = failing_store
    asked = options.only.split(",") if options.only else None
    local = {name: scenario for name, scenario in local.items() if asked is None or name in asked}
    with_ray = not options.quick and find_spec("ray") is not None and (asked is None or "nodes" in asked)
    with temporary_folder() as place, Warm("torch") as warm:
        soak = Soak(Path(place), random.Random(options.seed), warm)
        soak.expected, soak.seconds = kills.undisturbed(warm, soak.root(), write=write, finish=True)
        soak.text = warm.run("export", str(soak.folder / "study")).stdout
        shutil.copytree(soak.folder / "study", soak.folder / "whole")
        if "object store failing" in local:
            root = soak.new()
            cold("run", str(root), "-q").communicate()
            soak.expected_cold = kills.study_digests(root)
        until = began + 60 * minutes * (1 - _SHARE_OF_RAY * with_ray)
        tallies = take_turns(soak, local, until, 1) if local else {}
        if with_ray:
            nodes = Nodes()
            soak.expected_cold = nodes.undisturbed(soak.new())
            lost = {f"node lost in {verb}": _losing(nodes, verb, False) for verb in ("prepare", "train", "evaluate")}
            tallies |= take_turns(
                soak, lost | {"head lost in train": _losing(nodes, "train", True)}, began + 60 * minutes, 1
            )
            nodes.cluster.shutdown()
    sys.exit(_print_table(tallies, clock() - began))


def _losing(nodes: Nodes, verb: str, head: bool) -> Callable[[Soak], tuple[bool, list[str]]]:
    return lambda soak: nodes.hurt(soak, verb, head=head)


def _print_table(tallies: dict[str, Tally], seconds: float) -> int:
    print("\n| fault | tried | met work or was found | came out whole | lost, or silently wrong |")
    print("|---|" + "---:|" * 4)
    for name, tally in tallies.items():
        wrong = len(tally.defects)
        print(f"| {name} | {tally.tried} | {tally.struck} | {tally.tried - min(wrong, tally.tried)} | {wrong} |")
    defects = sum(len(tally.defects) for tally in tallies.values())
    print(f"\n{seconds:.0f} s\ndefects={defects}")
    return int(defects > 0)


if __name__ == "__main__":
    main()
