"""Whether the benchmark's own material is sound: `python -m benchmarks.faults.selfcheck`.

Healthy sides must agree with each other and with the laws; every patch must fit exactly once; every patched side must
load and answer. What a diagnosis makes of it is another benchmark's business.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
from numpy.typing import NDArray

from benchmarks.faults.catalogue import FAULTS, MORE, SIDES, UNLISTED, USER, Fault, Side, apply
from benchmarks.faults.historical import CASES
from benchmarks.faults.probe import DATASETS, Probe, load, modules_of_users
from lossary.diagnosis.adapter import CAPABILITIES, Feed, as_feed
from lossary.models.update_laws import UpdateLaw, learning_rate, reference_update

Arrays = dict[str, NDArray[Any]]


def check(condition: bool, message: str) -> None:
    """Raises AssertionError."""
    if not condition:
        raise AssertionError(message)


def largest(a: Arrays, b: Arrays) -> float:
    """The largest difference of any entry."""
    return max(float(np.abs(np.asarray(a[name], np.float64) - b[name]).max()) for name in a)


# --- healthy ------------------------------------------------------------------------------------------------------


def check_healthy(folder: Path) -> None:
    """Both sides against each other and against the laws."""
    for optimizer in ("adamw", "lamb"):
        probe = Probe.make(folder, optimizer={"name": optimizer, "warmup": 3})
        sides = {side: load(USER / f"adapter_{side}.py", probe.setup) for side in SIDES}
        feed = probe.feed(sides["torch"], rows=24)
        answers = {name: ask(side, probe, feed) for name, side in sides.items()}
        _check_agreement(answers["torch"], answers["keras"], feed)
        for name, side in sides.items():
            _check_update(side, probe, answers[name]["gradients"], hat=side.declared.get("epsilon_placement") == "hat")
            if optimizer == "adamw":
                _check_feeds(side, probe)
            rates = [learning_rate(step, probe.setup.recipe.optimizer, 400) for step in range(400)]
            check(np.allclose(side.learning_rates(0, 400), rates, rtol=1e-12), f"{name}: learning rates")
            check(side.learning_rates(100, 400) == side.learning_rates(0, 400)[100:], f"{name}: rates after a resume")
        _check_bf16(folder, probe, feed)
        print(f"healthy sides with {optimizer}: agree with each other and with the laws")


def _check_bf16(folder: Path, exact: Probe, feed: Feed) -> None:
    """In bfloat16 both sides answer, and differ from fp32 by no more than that."""
    for side in SIDES:
        probes = (exact, Probe.make(folder, precision="bf16"))
        answers = [ask(load(USER / f"adapter_{side}.py", probe.setup), probe, feed) for probe in probes]
        difference = np.abs(answers[0]["forward"]["mlm"] - answers[1]["forward"]["mlm"])[feed.weights[:, 0] > 0].max()
        check(1e-4 < difference < 0.3, f"{side}: logits in bfloat16 differ by {difference:.2g}")
        check(largest(answers[0]["gradients"], answers[1]["gradients"]) < 0.1, f"{side}: gradients in bfloat16")


def _check_agreement(torch: dict[str, Any], keras: dict[str, Any], feed: Feed) -> None:
    rows = np.arange(len(feed))[:, None]
    at_positions = torch["forward"]["mlm"][rows, feed.positions]
    used = feed.weights > 0
    logits = np.abs(at_positions - keras["forward"]["mlm"])[used].max()
    order = np.abs(torch["forward"]["sop"] - keras["forward"]["sop"]).max()
    check(max(logits, order) <= 1e-5, f"logits differ by {logits:.2g} and {order:.2g}")
    check(largest(torch["gradients"], keras["gradients"]) <= 1e-5, "gradients differ")
    for name, value in torch["measure"].items():
        check(abs(value - keras["measure"][name]) <= 1e-5, f"{name}: {value} and {keras['measure'][name]}")


def _check_update(side: Any, probe: Probe, gradients: Arrays, *, hat: bool) -> None:
    """Four updates, the first at rate 0; gradients of two replicas are averaged."""
    optimizer = probe.setup.recipe.optimizer
    law = UpdateLaw.of(optimizer)
    exact = {name: w.astype(np.float64) for name, w in probe.weights.items()}
    moments = ({n: np.zeros_like(w) for n, w in exact.items()}, {n: np.zeros_like(w) for n, w in exact.items()})
    side.load(probe.weights)
    side.restart()
    for step in range(4):
        side.update([gradients, {name: 2 * g for name, g in gradients.items()}], step=step)
        mean = {name: 1.5 * g.astype(np.float64) for name, g in gradients.items()}
        one_law = _hat(law, step) if hat else law
        rate = learning_rate(step, optimizer, probe.setup.recipe.steps)
        updated = reference_update(one_law, exact, mean, moments, step=step, rate=rate)
        exact, moments = updated.parameters, (updated.m, updated.v)
    distance = largest(side.weights(), exact)
    check(distance <= 1e-6, f"{side.name}: weights are {distance:.2g} off after four updates")


def _hat(law: UpdateLaw, step: int) -> UpdateLaw:
    """Epsilon on the uncorrected root is a larger epsilon on the corrected one."""
    return UpdateLaw(**vars(law) | {"epsilon": law.epsilon / (1 - law.beta2 ** (step + 1)) ** 0.5})


def _check_feeds(side: Any, probe: Probe) -> None:
    """What must hold for any maker of examples."""
    feeds = [as_feed(side.examples(probe.documents, epoch=epoch), where="examples") for epoch in (0, 0, 1)]
    check(np.array_equal(feeds[0].token_ids, feeds[1].token_ids), "an epoch is not the same when asked for again")
    check(not np.array_equal(feeds[0].token_ids, feeds[2].token_ids), "epochs have the same masks")
    whole = as_feed(side.stream(probe.documents, start=0, stop=12), where="stream")
    rest = as_feed(side.stream(probe.documents, start=7, stop=12), where="stream")
    size = probe.setup.recipe.batch_size
    check(np.array_equal(whole.token_ids[7 * size :], rest.token_ids), "a resumed stream is another one")
    first, second = (as_feed(side.validation(probe.documents), where="validation") for _ in range(2))
    check(np.array_equal(first.token_ids, second.token_ids), "validation is drawn anew")
    check(set(np.unique(first.dataset)) == set(range(len(DATASETS))), "validation lacks a dataset")
    check(not _texts(first) & _texts(feeds[0]), "a validation example is in training")
    for feed in (*feeds, whole, first):
        _check_invariants(feed, probe)
    _check_rates(feeds[0], probe)
    long = as_feed(side.stream(probe.documents, start=0, stop=200), where="stream")
    shares = np.bincount(long.dataset, minlength=len(DATASETS)) / len(long)
    check(bool(np.allclose(shares, list(probe.setup.shares.values()), atol=0.03)), f"shares are {shares}")


def _texts(feed: Feed) -> set[bytes]:
    return {row.tobytes() for row in _unmasked(feed) if (row > 4).sum() > 12}


def _unmasked(feed: Feed) -> NDArray[np.int32]:
    tokens: NDArray[np.int32] = feed.token_ids.copy()
    rows, slots = np.nonzero(feed.weights > 0)
    tokens[rows, feed.positions[rows, slots]] = feed.labels[rows, slots]
    return tokens


def _check_invariants(feed: Feed, probe: Probe) -> None:
    tokens = _unmasked(feed)
    real = feed.attention_mask > 0
    check(bool((real == (tokens > 0)).all()), "attention is not where tokens stand")
    check(bool((tokens[:, 0] == 2).all()), "no [CLS] in front")
    separators = (tokens == 3).sum(axis=1)
    check(bool((separators == np.where(feed.sop_labels >= 0, 2, 1)).all()), "separators do not go with labels")
    second = (np.cumsum(tokens == 3, axis=1) - (tokens == 3)) * real
    check(bool((feed.segment_ids == second).all()), "segment ids")
    labels = feed.labels[feed.weights > 0]
    check(bool((labels > 4).all() or (labels[labels <= 4] == 1).all()), "a special piece is a target")
    check(int(labels.max()) < probe.setup.shape.vocabulary_size, "label out of range")


def _check_rates(feed: Feed, probe: Probe) -> None:
    labelled = feed.sop_labels >= 0
    swapped = float((feed.sop_labels[labelled] == 1).mean())
    check(abs(swapped - 0.5) < 2.5 * 0.5 / np.sqrt(labelled.sum()), f"{swapped:.1%} are swapped")
    masked = feed.weights.sum() / feed.attention_mask.sum()
    check(0.14 < masked < 0.16, f"{masked:.1%} of tokens are masked")
    rows, slots = np.nonzero(feed.weights > 0)
    shown, labels = feed.token_ids[rows, feed.positions[rows, slots]], feed.labels[rows, slots]
    kinds = [float((shown == 4).mean()), float((shown == labels).mean())]
    check(abs(kinds[0] - 0.8) < 0.02 and abs(kinds[1] - 0.1) < 0.02, f"masked and kept: {kinds}")
    names = probe.setup.datasets.index("names")
    check(bool((feed.sop_labels[feed.dataset == names] == -1).mean() > 0.8), "lines are paired")


# --- patched ------------------------------------------------------------------------------------------------------


def ask(side: Any, probe: Probe, feed: Feed) -> dict[str, Any]:
    """Every method once."""
    parts = [feed.take(rows).arrays() for rows in np.array_split(np.arange(len(feed)), [5, 13])]
    side.load(probe.weights)
    answers: dict[str, Any] = {"weights": side.weights(), "roundtrip": side.roundtrip()}
    answers["encode"] = side.encode(["A first line.", "Second [CLS] line é"])
    answers["forward"] = side.forward(feed.arrays(), training=False)
    answers["training"] = side.forward(feed.arrays(), training=True)
    answers["measure"] = side.measure(_right_half_the_time(answers["forward"], feed), feed.arrays())
    answers["gradients"] = side.gradients(parts)
    answers["reported_loss"] = side.reported_loss(parts)
    side.restart()
    replicas = [answers["gradients"], {name: -3 * g + 0.01 for name, g in answers["gradients"].items()}]
    side.update(replicas, step=0)
    side.update(replicas, step=1)
    answers["updated"] = side.weights()
    side.load(probe.weights)
    side.restart()
    told = [side.train_step(feed.arrays(), step=step) for step in range(2)]
    answers["train_step"], answers["trained"] = told[-1], side.weights()
    answers["learning_rates"] = {
        "from 0": np.array(side.learning_rates(0, 60)),
        "from 30": np.array(side.learning_rates(30, 60)),
    }
    answers["checkpoint"] = side.checkpoint()
    return answers


def _right_half_the_time(outputs: dict[str, Any], feed: Feed) -> dict[str, Any]:
    """Logits that hit the label at every other masked position."""
    mlm = np.array(outputs["mlm"])
    rows, slots = np.nonzero(feed.weights > 0)
    places = slots if mlm.shape[1] == feed.positions.shape[1] else feed.positions[rows, slots]
    mlm[rows[::2], places[::2], feed.labels[rows, slots][::2]] += 20
    return {**outputs, "mlm": mlm}


def ask_feeds(side: Any, probe: Probe) -> dict[str, Any]:
    """Every method that makes arrays of documents."""
    answers: dict[str, Any] = {"encode": side.encode(["A first line.", "Второй é line"])}
    documents = probe.documents[::2]
    for name, arrays in (
        ("examples", side.examples(documents, epoch=0)),
        ("next", side.examples(documents, epoch=1)),
        ("stream", side.stream(documents, start=0, stop=48)),
        ("resumed", side.stream(documents, start=24, stop=48)),
        ("validation", side.validation(documents)),
        ("again", side.validation(documents)),
    ):
        answers[name] = vars(as_feed(arrays, where=name))
    return answers


def check_patched(folder: Path, faults: Iterable[Fault], sides: Iterable[Side]) -> list[str]:
    """Loads every patched side, asks it, and returns what went wrong: an exception, or a healthy answer."""
    wrong: list[str] = []
    healthy: dict[str, dict[str, Any]] = {}
    for side in sides:
        for fault in faults:
            if side not in fault.sides:
                continue
            probe = Probe.make(folder, **{key: dict(value) for key, value in fault.recipe.items()})
            asked = ask_feeds if _is_of_feeds(fault, side) else _asked_of_model
            dataset = (fault.datasets or ("manual",))[0] if fault.by_dataset else None
            key = f"{side} {asked.__name__} {fault.recipe} {fault.settings.get(side)}"
            if key not in healthy:
                made = _answers(fault, side, folder, probe, asked, settings_only=True)
                if isinstance(made, str):
                    wrong.append(f"{fault.code} {side}, healthy with its settings: {made}")
                    continue
                healthy[key] = made
            for dose in (1.0, 0.3) if fault.dosed and side == SIDES[0] else (1.0,):
                answers = _answers(fault, side, folder, probe, asked, dataset=dataset, dose=dose)
                if isinstance(answers, str):
                    wrong.append(f"{fault.code} {side} at {dose}: {answers}")
                elif fault.patches and not differing(answers, healthy[key]):
                    if not (fault.code == "O2" and side == "keras"):  # A declaration is left out; the code stays.
                        wrong.append(f"{fault.code} {side} at {dose}: answers as the healthy side")
                elif os.environ.get("SELFCHECK_VERBOSE"):
                    print(f"  {fault.code:28} {side:6} {dose}: {', '.join(differing(answers, healthy[key]))}")
    return wrong


def _is_of_feeds(fault: Fault, side: Side) -> bool:
    patches = fault.patches.get(side, ())
    return bool(patches) and all(patch.file == "feed.py" for patch in patches)


def _asked_of_model(side: Any, probe: Probe) -> dict[str, Any]:
    return ask(side, probe, _feed(probe))


_FEEDS: dict[int, Feed] = {}


def _feed(probe: Probe) -> Feed:
    if 0 not in _FEEDS:
        with modules_of_users():
            _FEEDS[0] = probe.feed(load(USER / "adapter_torch.py", probe.setup), rows=24)
    return _FEEDS[0]


def _answers(
    fault: Fault, side: Side, folder: Path, probe: Probe, asked: Callable[[Any, Probe], dict[str, Any]], **how: Any
) -> dict[str, Any] | str:
    with tempfile.TemporaryDirectory(dir=folder) as into, modules_of_users(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            adapter = load(apply(fault, side, into=Path(into), **how), probe.setup)
            return asked(adapter, probe)
        except Exception as error:
            if os.environ.get("SELFCHECK_VERBOSE"):
                import traceback

                traceback.print_exc()
            return f"{type(error).__name__}: {error}"


def differing(a: Any, b: Any, path: str = "") -> list[str]:
    """The answers that differ, by name, by more than rounding."""
    if isinstance(a, dict):
        found = [name for key in a for name in differing(a[key], b[key], path or str(key))]
        return list(dict.fromkeys(found))
    x, y = np.asarray(_flat(a), np.float64), np.asarray(_flat(b), np.float64)
    same = x.shape == y.shape and np.allclose(x, y, rtol=1e-5, atol=1e-7, equal_nan=True)
    return [] if same else [path]


def _flat(value: Any) -> Any:
    return [item for part in value for item in part] if isinstance(value, list) else value


def check_historical(folder: Path) -> list[str]:
    """Every historical case loads, answers, and does not answer like the healthy side."""
    wrong = []
    healthy: dict[str, dict[str, Any]] = {}
    for case in CASES:
        probe = Probe.make(folder, **{key: dict(value) for key, value in case.recipe.items()})
        key = f"{case.side} {case.recipe}"
        if key not in healthy:
            healthy[key] = _everything(USER / f"adapter_{case.side}.py", probe)
        try:
            answers = _everything(case.adapter, probe)
        except Exception as error:
            wrong.append(f"{case.name}: {type(error).__name__}: {error}")
            continue
        found = differing(answers, healthy[key])
        if not found:
            wrong.append(f"{case.name}: answers as the healthy side")
        if os.environ.get("SELFCHECK_VERBOSE"):
            print(f"  {case.name:28} {case.side:6}: {', '.join(found)}")
    return wrong


def _everything(adapter: Path, probe: Probe) -> dict[str, Any]:
    with modules_of_users(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        side = load(adapter, probe.setup)
        check(not [name for name in CAPABILITIES if not hasattr(side, name)], "methods are missing")
        return ask(side, probe, _feed(probe)) | ask_feeds(side, probe)


def main() -> None:
    """Runs everything; a list of faults may be named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("codes", nargs="*", help="only these faults, `healthy` or `historical`")
    parser.add_argument("--side", choices=SIDES, help="only this side")
    arguments = parser.parse_args()
    codes = set(arguments.codes)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lossary-selfcheck-") as name:
        folder = Path(name)
        if not codes or "healthy" in codes:
            with modules_of_users():
                check_healthy(folder)
        faults = [fault for fault in (*FAULTS, *UNLISTED, *MORE) if not codes or fault.code in codes]
        wrong = check_patched(folder, faults, (arguments.side,) if arguments.side else SIDES)
        if not codes or "historical" in codes:
            wrong += check_historical(folder)
    print(
        f"{len(faults)} faults on up to two sides, {len(CASES)} historical cases; {time.perf_counter() - started:.0f} s"
    )
    for line in wrong:
        print(f"WRONG {line}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
