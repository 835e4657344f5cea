"""Every file of a study that carries numbers, compared with its checksum: whole, damaged, or without a checksum.

    for kind, files in groupby(verify(StudyFolder(root)), lambda file: file.kind): ...

What a command reads it compares itself; this reads everything, and goes on after what is damaged. Files that somebody
else keeps are not looked at: sources, the study file, logs, pages that can be written again.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from lossary.data.blocks import Blocks, Place
from lossary.data.manifests import MANIFEST, read_manifest
from lossary.data.tokenizer import MODELS, open_tokenizer
from lossary.diagnosis import traces
from lossary.errors import DataError, LossaryError
from lossary.files import check_json, read_json
from lossary.folder import StudyFolder
from lossary.models.checkpoints import check_checkpoint, list_checkpoints
from lossary.reports.diagnosis import read_diagnosis_markdown
from lossary.results.whole_scores import check_scores
from lossary.seals import check_sealed, read_sealed
from lossary.tables.imported import CURVES, IMPORTED
from lossary.tables.imported_examples import EXAMPLES

__all__ = ["REMEDIES", "VerifiedFile", "verify"]

State = Literal["whole", "damaged", "no checksum"]

REMEDIES = {
    "tokenizer": "restore it from a copy: every checkpoint holds one, spiece.model or tokenizer.json",
    "prepared": "delete the folder below prepared/ and run `lossary prepare`: it is made again from its sources",
    "validation": "restore it from a copy: scores depend on it, and another one would make them another study's",
    "texts": "delete its folder and run `lossary prepare`: it is made again from the sources",
    "views": "delete its folder: it is made again when it is asked for",
    "run": "restore it from a copy: it says how the run was planned",
    "steps": "delete it: curves of training are lost, tables and checkpoints are not",
    "checkpoint": "delete its folder: `lossary train` goes on from the one before",
    "scores": "delete it and run `lossary evaluate`",
    "sequential": "delete it and run `lossary evaluate --until decided`",
    "import": "delete it and import again",
    "diagnosis": "delete it and run `lossary diagnose`",
}


@dataclass(frozen=True, kw_only=True)
class VerifiedFile:
    """One file, or a checkpoint's folder; `why` says what is wrong with one that is damaged."""

    kind: str
    path: Path
    state: State
    why: str = ""


class _Check(NamedTuple):
    """What is looked at, and how: True if it is whole, False without a checksum, an error if it is damaged."""

    kind: str
    path: Path
    compare: Callable[[], bool]


def verify(folder: StudyFolder) -> Iterator[VerifiedFile]:
    """Compares everything, kind by kind, in the order of `REMEDIES`."""
    for kind, path, compare in _checks(folder):
        try:
            yield VerifiedFile(kind=kind, path=path, state="whole" if compare() else "no checksum")
        except (LossaryError, OSError) as error:
            why = error.message if isinstance(error, LossaryError) else str(error)
            yield VerifiedFile(kind=kind, path=path, state="damaged", why=why)
        except _OF_ANOTHER_FORM:
            why = "it, or the manifest beside it, has the form of another file"
            yield VerifiedFile(kind=kind, path=path, state="damaged", why=why)


# What a file with a checksum of its own does to whoever reads it in the place of another.
_OF_ANOTHER_FORM = (AttributeError, IndexError, KeyError, TypeError, ValueError)


def _checks(folder: StudyFolder) -> Iterator[_Check]:
    root = folder.root
    if folder.tokenizer.is_dir():
        path = folder.tokenizer / MANIFEST
        yield _Check("tokenizer", path, partial(check_json, path))
        file = next(
            (path for name in MODELS if (path := folder.tokenizer / name).is_file()), folder.tokenizer / MODELS[0]
        )
        yield _Check("tokenizer", file, partial(_own_tokenizer, folder))
    for kind in ("prepared", "validation", "views"):
        for path in sorted((root / kind).rglob(MANIFEST)):
            if not any(part.startswith(".") for part in path.relative_to(root).parts):
                is_text = kind == "validation" and path.parent.parent.parent == root / kind
                yield from _blocks("texts" if is_text else kind, path)
    for path in sorted((root / "runs").glob("*/run.json")):
        yield _Check("run", path, partial(check_json, path))
    for path in sorted((root / "runs").glob("*/steps.parquet")):
        yield _Check("steps", path, partial(_parquet, path))
    for checkpoints in sorted((root / "runs").glob("*/checkpoints")):
        for path in list_checkpoints(checkpoints):
            yield _Check("checkpoint", path, partial(check_checkpoint, path))
    for kind in ("scores", "sequential"):
        for path in sorted((root / "runs").glob(f"*/{kind}/*.parquet")):
            yield _Check(kind, path, partial(_scores, path))
    if (root / IMPORTED).is_file():
        yield _Check("import", root / IMPORTED, partial(check_json, root / IMPORTED))
    for name in (CURVES, EXAMPLES):
        if (root / name).is_file():
            yield _Check("import", root / name, partial(_parquet, root / name))
    for path in sorted(folder.diagnosis.glob("*.json")):
        yield _Check("diagnosis", path, partial(check_json, path))
    for path in sorted(folder.diagnosis.glob("*.md")):
        yield _Check("diagnosis", path, partial(_markdown, path))
    for part in ("questions", "answers"):
        for path in sorted((folder.diagnosis / "traces" / part).glob("*.json")):
            yield _Check("diagnosis", path, partial(_trace, path))


def _own_tokenizer(folder: StudyFolder) -> bool:
    """Whole, and the one that datasets and runs were made with."""
    digest = open_tokenizer(folder).digest
    users = dict[str, str]()
    for path in [*folder.root.glob(f"prepared/*/{MANIFEST}"), *folder.root.glob("runs/*/run.json")]:
        # One that is damaged is told as such.
        with suppress(LossaryError, AttributeError):
            record = read_json(path)
            used = record.get("tokenizer_digest") or record.get("description", {}).get("tokenizer")
            users[str(path.parent.relative_to(folder.root))] = used or digest
    if others := sorted(name for name, used in users.items() if used != digest):
        raise DataError(f"whole, but not the tokenizer that {', '.join(others)} {_were(others)} made with")
    return True


def _were(names: list[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _manifest(path: Path) -> bool:
    read_manifest(path.parent)
    return check_json(path)


def _parquet(path: Path) -> bool:
    if check_sealed(path):
        return True
    # Nothing tells whether it is what was written; whether it can be read at all does.
    read_sealed(path)
    return False


def _scores(path: Path) -> bool:
    sealed = check_sealed(path)
    check_scores(path)
    return sealed


def _markdown(path: Path) -> bool:
    read_diagnosis_markdown(path)
    return path.with_suffix(".json").is_file()


def _trace(path: Path) -> bool:
    traces.check(path)
    return True


def _blocks(kind: str, path: Path) -> Iterator[_Check]:
    """A manifest of prepared data, and the files of blocks that it lists."""
    yield _Check(kind, path, partial(_manifest, path))
    try:
        manifest = read_manifest(path.parent)
        listed = manifest.get("shards") or manifest.get("files") or []
        if isinstance(listed, dict):
            listed = [{"name": name, "blocks": blocks} for name, blocks in listed.items()]
        files = {str(file["name"]): file.get("blocks") for file in listed}
    except (LossaryError, TypeError, AttributeError, KeyError):
        return
    for name, blocks in files.items():
        yield _Check(kind, path.parent / name, partial(_whole_blocks, path.parent / name, blocks))


def _whole_blocks(path: Path, blocks: list[list[int]] | None) -> bool:
    if blocks is None:
        return False
    found = Blocks([(path, [Place(*block[:2]) for block in blocks])], hint="")
    for number in range(len(found)):
        found.encoded(number)
    return True
