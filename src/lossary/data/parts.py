"""Parts of the validation set, one a dataset: what each was frozen from, and whether it stays as the study changes.

A part stays as long as its own request does: the dataset's documents, seed, length and masks. How many examples it has
was settled when it was frozen; shares and counts that change later change it only while no run depends on it.

    for name, plan in examples_plan(study, folder).items():
        print(name, plan.fate, plan.why)            # nothing is written
"""

import json
from collections.abc import Collection, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lossary.data.assemble import Settings
from lossary.data.blocks import Blocks, Place
from lossary.data.examples import Examples, concatenate, unpacked_examples
from lossary.data.manifests import MANIFEST, SCHEMA, read_manifest
from lossary.errors import DataError, ShardError
from lossary.files import digest_json, read_json
from lossary.folder import StudyFolder
from lossary.naming import Names
from lossary.study import Study

__all__ = [
    "EXAMPLES",
    "HASHES",
    "PartPlan",
    "examples_plan",
    "find_examples",
    "free_name",
    "is_earlier",
    "known_part",
    "known_parts",
    "part_blocks",
    "part_request",
    "present_validation",
    "read_validation_manifest",
    "read_run_record",
    "runs_with_results",
    "refuse_earlier_layout",
    "validation_notes",
    "validation_shares",
]

EXAMPLES, HASHES = "examples.arrow", "hashes.arrow"
_RESTORE = "Restore it from a copy; scores made on it cannot be compared with scores made on other examples."
_RENEW = "`--new-generation` keeps all that stands and freezes them anew"
_EARLIER = "the validation set was frozen by an earlier lossary"
_EARLIER_HINT = (
    "Its tables can be shown and compared. To prepare, train or evaluate, copy study.toml and sources to a new folder."
)

Fate = Literal["kept", "frozen", "refused"]


class PartPlan(NamedTuple):
    """What `prepare` would do with the part of one dataset, and why."""

    fate: Fate
    why: str


def read_validation_manifest(folder: StudyFolder) -> dict[str, Any]:
    """What is frozen; ShardError if nothing is. In the earlier layout every dataset has the digest of the whole.

    Datasets go by their present names, as in all that is read here, unless the folder is given `as_drawn`.
    """
    path = folder.validation / MANIFEST
    if not path.is_file():
        raise ShardError("no validation set is frozen", where=str(folder.validation), hint="Run `lossary prepare`.")
    manifest = read_manifest(folder.validation)
    if is_earlier(manifest):
        manifest["parts"] = dict.fromkeys(manifest["datasets"], manifest["digest"])
    _call(manifest, folder.names, ("datasets", "parts", "per_dataset"))
    if "notes" in manifest:
        manifest["notes"] = [folder.names.told(note) for note in manifest["notes"]]
    return manifest


def _call(content: dict[str, Any], names: Names, keys: Collection[str]) -> None:
    """Gives datasets their present names where a list or an object of what was read goes by them."""
    for key in keys:
        found = content.get(key)
        if isinstance(found, dict):
            content[key] = {names.called(name): value for name, value in found.items()}
        elif isinstance(found, list):
            content[key] = [names.called(name) for name in found]


def present_validation(study: Study, folder: StudyFolder) -> dict[str, Any]:
    """As `read_validation_manifest`, of the datasets that the study still has: shares add up to 1, notes are of them.

    Between a dataset's removal and the next `prepare` the manifest lists it still.
    """
    manifest = read_validation_manifest(folder)
    described = {name: row for name, row in manifest["per_dataset"].items() if name in study.datasets}
    if len(described) == len(manifest["per_dataset"]):
        return manifest
    whole = sum(row["share"] for row in described.values())
    manifest["per_dataset"] = {name: row | {"share": row["share"] / whole} for name, row in described.items()}
    if not is_earlier(manifest):
        parts = {name: part for name, part in known_parts(folder).items() if name in described}
        shares = {name: row["share"] for name, row in manifest["per_dataset"].items()}
        notes = validation_notes(manifest["asked"], parts, shares)
        manifest["notes"] = [folder.names.told(note) for note in notes]
    return manifest


def validation_notes(asked: int, parts: Mapping[str, Mapping[str, Any]], shares: Mapping[str, float]) -> list[str]:
    """What is to be known of frozen parts, given as manifests, where `asked` examples are asked for by `shares`."""
    notes = list(dict.fromkeys(note for part in parts.values() for note in part["notes"]))
    kept = [
        f"{name} {part['examples']:,} (now {shares[name]:.1%} of {asked:,})"
        for name, part in parts.items()
        if part["asked"] != asked or abs(part["share"] - shares[name]) > 1e-9
    ]
    if kept:
        notes.append(
            "validation examples stay as they were frozen, totals are weighted by the present shares: "
            + ", ".join(kept)
        )
    return notes


def part_blocks(folder: StudyFolder, part: Mapping[str, Any], file: str) -> Blocks:
    """The blocks of a file of a part, given as its manifest."""
    places = [Place(*block[:2]) for block in part["files"][file]]
    return Blocks([(folder.as_drawn.validation_part(part["dataset"]) / file, places)], hint=_RESTORE)


def find_examples(folder: StudyFolder, name: str, wanted: Collection[int]) -> Examples:
    """The frozen examples of a dataset with some numbers; other blocks are not read. ShardError as `known_part`."""
    part = known_part(folder, name)
    path = folder.validation_part(name) / EXAMPLES
    if not path.is_file():
        raise ShardError("the frozen validation set is not in this folder", where=str(path))
    blocks = part_blocks(folder, part, EXAMPLES)
    numbers = np.array(sorted(wanted), np.uint64)
    found = []
    for number, (_, _, _, first, last) in enumerate(part["files"][EXAMPLES]):
        if np.searchsorted(numbers, np.uint64(first), "left") < np.searchsorted(numbers, np.uint64(last), "right"):
            block = unpacked_examples(blocks.read(number), dataset=0)
            found.append(block.take(np.flatnonzero(np.isin(block.example, numbers))))
    return concatenate(found) if found else unpacked_examples(blocks.read(0), dataset=0).take(np.zeros(0, np.int64))


def known_part(folder: StudyFolder, name: str) -> dict[str, Any]:
    """The manifest of a listed part; ShardError if it is missing or not the listed one."""
    refuse_earlier_layout(folder, read_validation_manifest(folder))
    part = known_parts(folder).get(name)
    if part is None:
        raise ShardError(
            "the frozen validation examples are missing or were changed",
            where=str(folder.validation_part(name)),
            hint=_RESTORE,
        )
    return part


def is_earlier(manifest: Mapping[str, Any]) -> bool:
    """Whether it is a validation set in one piece."""
    return bool(manifest.get("schema", 1) < SCHEMA)


def refuse_earlier_layout(folder: StudyFolder, manifest: Mapping[str, Any]) -> None:
    """ShardError if the validation set is in one piece: it can be shown, not scored on or added to."""
    if is_earlier(manifest):
        raise ShardError(_EARLIER, where=str(folder.validation), hint=_EARLIER_HINT)


def examples_plan(
    study: Study, folder: StudyFolder, *, anew: Collection[str] = (), renew: bool = False
) -> dict[str, PartPlan]:
    """What `prepare` would do with each dataset's validation examples; writes nothing.

    `anew` names datasets whose documents will be tokenised anew, so that their digests are not known yet; datasets that
    are not prepared are counted among them. With `renew` examples do not stay where the study file asks for another
    number of them: what runs depend on is refused then.
    """
    manifests = {
        name: read_manifest(folder.dataset(name))
        for name in study.datasets
        if name not in anew and (folder.dataset(name) / MANIFEST).is_file()
    }
    return _plan(study, folder, manifests, renew=renew)


def _plan(
    study: Study, folder: StudyFolder, datasets: Mapping[str, Mapping[str, Any]], *, renew: bool
) -> dict[str, PartPlan]:
    path = folder.validation / MANIFEST
    if path.is_file() and is_earlier(read_manifest(folder.validation)):
        used = runs_with_results(folder)
        why = f"{_EARLIER}, and runs depend on it: {', '.join(used)}"
        return dict.fromkeys(study.datasets, PartPlan("refused", why) if used else PartPlan("frozen", _EARLIER))
    known = known_parts(folder)
    users = {name: _dependents(study, folder, name, str(part["digest"])) for name, part in known.items()}
    counts = _changed_counts(study, folder, datasets)
    plans = {}
    for name in study.datasets:
        part = known.get(name)
        if part is None:
            plans[name] = PartPlan("frozen", "it has no validation examples yet")
        elif name not in datasets or part["request"] != part_request(study, name, datasets[name]):
            change = "its documents, its tokenizer, the seed, the length or the masks changed"
            plans[name] = (
                PartPlan("refused", f"{change}, and runs depend on its validation examples: {', '.join(users[name])}")
                if users[name]
                else PartPlan("frozen", change)
            )
        elif counts and not users[name]:
            plans[name] = PartPlan("frozen", counts)
        elif renew and users[name] and (other := counts or _other_number(study, part)):
            plans[name] = PartPlan(
                "refused", f"{other}, and runs depend on its validation examples: {', '.join(users[name])}"
            )
        else:
            stay = f"{part['examples']:,} examples stay as they were frozen"
            plans[name] = PartPlan(
                "kept", f"{stay}: runs depend on them, though {counts}; {_RENEW}" if counts else stay
            )
    anew = [name for name, plan in plans.items() if plan.fate == "frozen" and name in known]
    if anew and not any(users.values()):
        # Nothing depends on any of them: together they are what a first `prepare` would make.
        why = plans[anew[0]].why
        plans = {name: plan if plan.fate == "frozen" else PartPlan("frozen", why) for name, plan in plans.items()}
    return plans


def known_parts(folder: StudyFolder) -> dict[str, dict[str, Any]]:
    """Manifests of the parts that are whole and listed, those of removed datasets among them."""
    if not (folder.validation / MANIFEST).is_file():
        return {}
    found = {}
    for drawn, digest in read_manifest(folder.validation).get("parts", {}).items():
        path = folder.as_drawn.validation_part(drawn)
        # A part that is not the listed one was written by a `prepare` that did not end.
        if (path / MANIFEST).is_file() and (part := read_manifest(path))["digest"] == digest:
            found[folder.names.called(drawn)] = part
    return found


def part_request(study: Study, name: str, dataset: Mapping[str, Any]) -> str:
    """What the part of a dataset depends on besides its number of examples; `dataset` is its manifest."""
    return digest_json(
        [
            SCHEMA,
            name,
            study.seed,
            study.recipe.short_rate,
            vars(Settings.of(study.recipe)),
            dataset["digest"],
            dataset["tokenizer_digest"],
        ]
    )


def validation_shares(study: Study, datasets: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Shares of the validation set by dataset, adding up to 1; `datasets` are manifests."""
    shares = study.validation.shares
    if not isinstance(shares, str):
        weights = {name: float(shares[name]) for name in datasets}
    elif isinstance(study.mixture.shares, str):
        # Before the split no training example is counted; tokens are what examples are made from.
        unit = "rows" if study.mixture.shares == "rows" else "tokens"
        weights = {name: float(manifest[unit]) for name, manifest in datasets.items()}
    else:
        weights = {name: float(study.mixture.shares[name]) for name in datasets}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _other_number(study: Study, part: Mapping[str, Any]) -> str:
    """How many examples are asked for, if a part was frozen for another number and stayed."""
    asked, before = study.validation.examples, part["asked"]
    return "" if asked == before else f"{asked:,} validation examples are asked for, it was frozen for {before:,}"


def _changed_counts(study: Study, folder: StudyFolder, datasets: Mapping[str, Mapping[str, Any]]) -> str:
    """How the study file now asks for other numbers of examples than were frozen; empty if it does not."""
    path = folder.validation / MANIFEST
    if not path.is_file():
        return ""
    frozen = read_manifest(folder.validation)
    if frozen["asked"] != study.validation.examples:
        return f"{study.validation.examples:,} validation examples are asked for, {frozen['asked']:,} were before"
    if frozen["max_fraction"] != study.validation.max_fraction:
        return "max_fraction changed"
    # Shares of all shrink when a dataset is added: only those of the others among themselves tell of a change.
    both = {name: manifest for name, manifest in datasets.items() if name in frozen["per_dataset"]}
    now = validation_shares(study, both) if both else {}
    before = {name: frozen["per_dataset"][name]["share"] for name in both}
    whole = sum(before.values())
    moved = [name for name in both if abs(now[name] - before[name] / whole) > 1e-9]
    return f"the validation shares of {', '.join(map(study.called, moved))} changed" if moved else ""


def read_run_record(folder: StudyFolder, run: str) -> dict[str, Any] | None:
    """What a run was begun with (`run.json`); None if it was not begun. DataError if it is damaged, and what to do."""
    path = folder.run(run) / "run.json"
    if not path.is_file():
        return None
    hint = f"Restore it from a copy; or move {folder.run(run)} away, and `lossary run` trains {run} anew."
    try:
        record = read_json(path)
    except DataError as error:
        raise DataError(error.message, where=error.where, hint=hint) from None
    if not isinstance(record, dict) or not record:
        raise DataError("no record of a run", where=str(path), hint=hint)
    # Its description and its digest are what they were.
    _call(record, folder.names, ("datasets", "weights"))
    return record


def free_name(folder: StudyFolder, taken: Collection[str], name: str) -> str:
    """A name for the draws and files of a dataset that is called like one that was made before: `wiki-2`.

    `taken` are the names that the study's datasets are drawn as; `folder` is told by them.
    """
    made = (path.name for path in folder.dataset(name).parent.glob("*"))
    stands = {known.casefold() for known in (*taken, *made, *known_parts(folder))}
    return next(free for number in count(2) if (free := f"{name}-{number}").casefold() not in stands)


def runs_with_results(folder: StudyFolder) -> list[str]:
    """Runs that were trained or scored, at least in part."""
    parts = ("checkpoints", "scores")
    return sorted({path.parent.name for part in parts for path in (folder.root / "runs").glob(f"*/{part}")})


def _dependents(study: Study, folder: StudyFolder, name: str, digest: str) -> list[str]:
    """Runs that were scored on a part, or trained on what it left over."""
    found = []
    for run in runs_with_results(folder):
        scored = any(_scored_on(path, name) == digest for path in (folder.run(run) / "scores").glob("*.parquet"))
        if scored or (run in study.runs and _trained_around(study, folder, run, name, digest)):
            found.append(run)
    return found


def _trained_around(study: Study, folder: StudyFolder, run: str, name: str, digest: str) -> bool:
    if not folder.checkpoints(run).is_dir():
        return False
    trained = (read_run_record(folder, run) or {}).get("datasets")
    length = study.recipe_of(run).sequence_length
    spans = [folder.spans(dataset, length) for dataset in trained or study.datasets_of(run)]
    return any(
        read_manifest(path).get("against", {}).get(name) == digest for path in spans if (path / MANIFEST).is_file()
    )


def _scored_on(path: Path, name: str) -> str | None:
    """The digest of a dataset's part in the header of a file of scores (results/records.py, above this package)."""
    try:
        header = json.loads((pq.read_schema(path).metadata or {})[b"lossary"])
        return header.get("validation", {}).get(name)  # type: ignore[no-any-return]
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
