"""Numbers that judge stand in one table, and nowhere else."""

import ast
from collections.abc import Iterator
from pathlib import Path

import lossary.diagnosis
from lossary.diagnosis import calibration

ROOT = Path(lossary.diagnosis.__file__).parent
PLAIN = (0, 1, 2, -1)  # nothing, the tolerance itself, a pair, the last
# What is compared and judges nothing: alphabets, how probes are drawn, what a cache keeps, numbers that overflow.
ALLOWED = {
    "covariates.py": "letters of an alphabet",
    "scorer.py": "dimensions of an array",
    "probes.py": "probes are drawn",
    "laws/probes.py": "probes are drawn",
    "laws/scored.py": "positions of a probe are drawn",
    "laws/update_names.py": "names that are listed",
    "laws/loading.py": "names that are listed",
    "laws/update_evidence.py": "results that are kept",
    "laws/scales.py": "a matrix that has no inverse",
    "laws/totals.py": "a weight that is left out",
    "laws/gradients.py": "a weight that is left out",
    "experiments/divergence.py": "a column's name says it",
    "printed.py": "digits of a printed number",
    "rescoring.py": "exponentials that overflow",
    "feeds/rates.py": "probabilities that underflow",
}
# Constants of a module that are compared with: codes, how probes are drawn, how far a search goes.
BUDGETS = frozenset(
    [
        "FIRST",
        "IGNORED",
        "LINES",
        "LONE",
        "LONGEST_GRAM",
        "ONE_LINE",
        "PADDING",
        "PAIR",
        "SECOND",
        "SPECIAL",
        "UNKNOWN",
        "_ALIKE",
        "_BLOCKS",
        "_BOTH",
        "_BREAK",
        "_EDGE",
        "_ELEMENTS",
        "_ENOUGH",
        "_FARTHEST",
        "_FLOAT32",
        "_FLOOR",
        "_GAIN",
        "_HIGHEST_BETA",
        "_HOME",
        "_KEPT",
        "_LEAST_SHOWN",
        "_LONG",
        "_LONGEST",
        "_MASKED",
        "_MOST",
        "_MOST_COVARIATES",
        "_MOST_FACTORS",
        "_MOST_FAULTS",
        "_MOST_LOGITS",
        "_MOST_OF_DOCUMENT",
        "_MOST_PLACES",
        "_MOST_SHARED",
        "_NEAR",
        "_NONE",
        "_NORMALISER",
        "_NO_NUMBER",
        "_ORDERS_UP_TO",
        "_PROBE_EXAMPLES",
        "_REFINED_AT_MOST",
        "_REPRESENTABLE",
        "_RESCUED",
        "_SAMPLE",
        "_SCALES",
        "_SHORTEST_GRAM",
        "_SHOWN",
        "_SLACK",
        "_SMALL",
        "_STEPS",
        "_SURE",
        "_TOLD",
        "_UNLABELLED",
        "_WRAPPED",
        "_ZERO",
    ]
)


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def _compared(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from (part for side in (node.left, *node.comparators) for part in ast.walk(side))  # type: ignore[misc]


def _number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def test_no_comparison_has_a_number_of_its_own() -> None:
    strays = [
        f"{name}:{node.lineno}: {ast.unparse(node)}"
        for name, tree in _trees()
        if name not in ALLOWED and name != "calibration.py"
        for node in _compared(tree)
        if _number(node) and node.value not in PLAIN  # type: ignore[attr-defined]
    ]
    assert not strays, strays


def test_no_module_has_a_constant_of_its_own_that_it_judges_by() -> None:
    strays = []
    for name, tree in _trees():
        if name == "calibration.py":
            continue
        own = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign) and any(_number(part) for part in ast.walk(node.value))
            for target in ast.walk(node.targets[0])
            if isinstance(target, ast.Name)
        }
        used = {node.id for node in _compared(tree) if isinstance(node, ast.Name)}
        strays += [f"{name}: {constant}" for constant in sorted(own & used - BUDGETS)]
    assert not strays, strays


def test_every_number_is_told_and_used() -> None:
    told = [number.name for number in calibration.NUMBERS]
    assert len(told) == len(set(told))
    imported = {
        alias.name
        for _, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == calibration.__name__
        for alias in node.names
    }
    assert set(told) == imported
    for number in calibration.NUMBERS:
        assert number.value == getattr(calibration, number.name)
        assert number.unit
        assert number.found
        if "tests/" in number.command:
            assert (ROOT.parents[2] / number.command.split()[-1]).is_file(), number.command
