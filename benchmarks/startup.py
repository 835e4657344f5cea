"""Time of `lossary --help`, against a Python that does nothing. The last line is the ratio; target: under 0.4 s.

python -m benchmarks.startup [--quick]
"""

import subprocess
import sys

from benchmarks.common import alternate, arguments, clock


def main() -> None:
    """Measures and prints."""
    options = arguments(__doc__)
    ours, bare = alternate(
        3 if options.quick else 15,
        lambda: seconds([sys.executable, "-m", "lossary", "--help"]),
        lambda: seconds([sys.executable, "-c", "pass"]),
    )
    print(f"lossary --help {ours:.3f} s, python -c pass {bare:.3f} s")
    print(f"ratio={ours / bare:.1f}")


def seconds(command: list[str]) -> float:
    """Of one run."""
    start = clock()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return clock() - start


if __name__ == "__main__":
    main()
