"""The page at scale: `lossary report` and the dashboard on a study of 40 million scores with texts.

The study (8 runs × 5 steps × 8 datasets × 125,000 examples) is made once and kept in the user's cache. The report is
timed as a user would; the dashboard is asked by eight clients for a minute. Each looks at two runs and a dataset, asks
for pages at random with half a second of thought between an answer and the next question (`--thought`), turns pages of
examples, and after some ten questions goes on to other runs. Memory is the server's resident set. Targets: report 15 s;
95 of 100 pages within 200 ms; memory flat over the second half. Neighbours slow all of it: the load is printed.

    python -m benchmarks.page [--clients 8] [--seconds 60] [--thought 0.5] [--quick]
"""

import http.client
import os
import random
import subprocess
import sys
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

import psutil

from benchmarks.common import arguments, clock
from benchmarks.page_study import Shape, page_study

_FULL = Shape(runs=8, steps=5, datasets=8, examples=125_000)
_QUICK = Shape(runs=4, steps=2, datasets=4, examples=5_000, trained=2_000)
_GOES_ON = 0.1
_WEIGHTS = {
    "": 5,
    "state.json": 4,
    "examples": 4,
    "compare": 3,
    "run": 2,
    "dataset": 2,
    "findings": 2,
    "curves": 1,
    "diagnosis": 1,
}
_REPORT_S, _PAGE_MS, _GROWTH = 15.0, 200.0, 0.05


@dataclass
class Watched:
    """What clients saw: milliseconds by page, and answers that were none."""

    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def main() -> None:
    """Measures and prints."""
    options = arguments(__doc__, ("--clients", 8), ("--seconds", 60), ("--thought", 0.5))
    shape = _QUICK if options.quick else _FULL
    seconds = 8 if options.quick else options.seconds
    start = clock()
    folder = page_study(shape)
    print(f"{shape.runs} runs × {shape.steps} steps × {shape.datasets} datasets × {shape.examples:,} examples", end="")
    print(f" = {shape.scores / 1e6:.1f} million scores (there after {clock() - start:.0f} s)")
    report_s, report_bytes = time_report(folder.root)
    line("lossary report", f"{report_s:.1f} s, {report_bytes / 1e6:.2f} MB", f"{_REPORT_S:.0f} s", report_s < _REPORT_S)
    with Dashboard(folder.root) as dashboard:
        first, curves = dashboard.first_page(), dashboard.first_curves()
        print(f"{'first page of the dashboard':<34} {first:.1f} s, first curves {curves:.1f} s later")
        before = dashboard.cpu
        watched, memory = drive(dashboard, shape, Drive(options.clients, seconds, options.thought))
        cpu = dashboard.cpu - before
    everything = [took for page in watched.took.values() for took in page]
    for page, took in sorted(watched.took.items()):
        print(f"  {page:<32} {len(took):>6,} times, p50 {_part(took, 50):6.1f} ms, p95 {_part(took, 95):6.1f} ms")
    p95 = _part(everything, 95)
    title = f"{options.clients} clients, {seconds} s, {len(everything):,} pages"
    line(title, f"p50 {_part(everything, 50):.1f} ms, p95 {p95:.1f} ms", f"{_PAGE_MS:.0f} ms", p95 < _PAGE_MS)
    print(f"{'processor time':<34} {1000 * cpu / len(everything):.1f} ms a page; load {os.getloadavg()[0]:.1f}")
    half = memory[len(memory) // 2 :]
    growth = half[-1] / half[0] - 1
    seen = f"{memory[0] / 1e6:.0f} MB at first, {half[0] / 1e6:.0f} MB halfway, {half[-1] / 1e6:.0f} MB at the end"
    line("memory", seen, f"+{_GROWTH:.0%} in the second half", growth < _GROWTH)
    line("answers that were none", str(len(watched.failed)), "0", not watched.failed)
    for text in watched.failed[:5]:
        print(f"  {text}")
    print(f"p95_ms={p95:.1f}")


def line(title: str, measured: str, target: str, met: bool) -> None:
    """One row of the table."""
    print(f"{title:<34} {measured:<56} target {target:<24} {'met' if met else 'MISSED'}")


def _part(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


def time_report(root: Path) -> tuple[float, int]:
    """Seconds of `lossary report`, and the bytes of its page."""
    start = clock()
    subprocess.run([sys.executable, "-m", "lossary", "report", str(root)], check=True, stdout=subprocess.DEVNULL)
    return clock() - start, (root / "report" / "report.html").stat().st_size


class Dashboard:
    """`lossary serve` in a process of its own."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> "Dashboard":
        command = [sys.executable, "-m", "lossary", "serve", str(self._root), "--port", "0"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        self.address = urlsplit(next(word for word in said.split() if word.startswith("http")).rstrip(";"))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def connect(self) -> http.client.HTTPConnection:
        """A connection that is kept."""
        return http.client.HTTPConnection(self.address.hostname or "", self.address.port, timeout=120)

    def first_page(self) -> float:
        """Seconds until the study is read and its first page is there; tells the study's address."""
        start = clock()
        connection = self.connect()
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        self.study = answer.getheader("location") or ""
        connection.request("GET", self.study)
        connection.getresponse().read()
        return clock() - start

    def first_curves(self) -> float:
        """Seconds until the curves are there, for which all files of scores are read."""
        start = clock()
        connection = self.connect()
        connection.request("GET", f"{self.study}curves")
        connection.getresponse().read()
        return clock() - start


class Drive(NamedTuple):
    """How many clients ask for how long, and how long each thinks."""

    clients: int
    seconds: float
    thought_s: float


def drive(dashboard: Dashboard, shape: Shape, how: Drive) -> tuple[Watched, list[int]]:
    """Lets clients ask for a while; what they saw, and the server's memory every second."""
    watched, until = Watched(), clock() + how.seconds
    threads = [
        threading.Thread(
            target=_client, args=(dashboard, _Reader(shape, random.Random(number)), until, how.thought_s, watched)
        )
        for number in range(how.clients)
    ]
    for thread in threads:
        thread.start()
    memory = []
    wait = threading.Event()
    while clock() < until:
        memory.append(dashboard.memory)
        wait.wait(1.0)
    for thread in threads:
        thread.join()
    memory.append(dashboard.memory)
    return watched, memory


def _client(dashboard: Dashboard, reader: "_Reader", until: float, thought_s: float, watched: Watched) -> None:
    connection = dashboard.connect()
    pause = threading.Event()
    while clock() < until:
        page, query = reader.question()
        start = clock()
        try:
            connection.request("GET", f"{dashboard.study}{page}?{urlencode(query)}")
            answer = connection.getresponse()
            answer.read()
            status = str(answer.status)
        except (OSError, http.client.HTTPException) as error:
            status = type(error).__name__
            connection = dashboard.connect()
        took = 1000 * (clock() - start)
        with watched.lock:
            watched.took[page or "losses"].append(took)
            if status != "200":
                watched.failed.append(f"{status} {page}?{urlencode(query)}")
        pause.wait(thought_s)


class _Reader:
    """What a client looks at: two runs, a dataset, a page of examples."""

    def __init__(self, shape: Shape, draw: random.Random) -> None:
        self._shape, self._draw = shape, draw
        self._begin()

    def _begin(self) -> None:
        self._first, self._second = self._draw.sample(self._shape.run_names, 2)
        self._dataset = self._draw.choice(self._shape.dataset_names)
        self._page = 1

    def question(self) -> tuple[str, dict[str, str | int]]:
        """A page and its query; the landing page and examples most often."""
        if self._draw.random() < _GOES_ON:
            self._begin()
        page = self._draw.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        pair: dict[str, str | int] = {"first": self._first, "second": self._second}
        queries: dict[str, dict[str, str | int]] = {
            "compare": pair,
            "run": {"name": self._first},
            "dataset": {"name": self._dataset},
            "examples": pair | {"dataset": self._dataset, "page": self._page},
        }
        if page == "examples":
            # Forward mostly, and once in a while far into them.
            far = self._draw.random() < _GOES_ON
            self._page = self._draw.randint(1, self._shape.examples // 25) if far else self._page + 1
        return page, queries.get(page, {})


if __name__ == "__main__":
    main()
