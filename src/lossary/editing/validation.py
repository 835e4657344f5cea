"""The validation examples that a difference takes come into the study file; nothing is frozen.

planned = plan_validation(file, folder, sample_sizes(study, folder, 0.005, sizes))
planned.document.write()
"""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from lossary.editing.document import StudyDocument
from lossary.errors import UsageError
from lossary.folder import StudyFolder
from lossary.planning.model import Item
from lossary.planning.plan import make_plan
from lossary.planning.sample_size import SampleSizes
from lossary.planning.text import refusal

__all__ = ["PlannedValidation", "plan_validation"]

_NOTHING = "nothing was written"


class PlannedValidation(NamedTuple):
    """The study file with its table [validation], checked and not written yet; what becomes of frozen examples."""

    document: StudyDocument
    items: list[Item]

    @property
    def is_new(self) -> bool:
        """Whether the file says anything else than before."""
        return self.document.text != self.document.before

    @property
    def told(self) -> str:
        """When as many are frozen."""
        stay = [item.name for item in self.items if item.fate == "kept"]
        if not stay:
            return "`lossary run` freezes as many"
        return (
            f"runs depend on the frozen examples of {', '.join(stay)}: `lossary run` keeps them, `lossary run "
            "--new-generation` keeps all that stands apart and freezes as many as the table asks for"
        )


def plan_validation(
    file: Path, folder: StudyFolder, found: SampleSizes, *, keep: Collection[str] = ()
) -> PlannedValidation:
    """The study file with as many examples as every dataset needs.

    UsageError where that is not known or not to be had, or where a study of them would lose what stands.
    """
    _refuse_unknown(file, found)
    document = StudyDocument.read(file)
    if lacking := [name for name in document.wanted["datasets"] if name not in found.weights]:
        raise UsageError(
            f"{_NOTHING}: no two runs are scored on {', '.join(lacking)}, and [validation] gives every dataset a share",
            where=str(file),
            hint="Run `lossary evaluate` first, or write the table by hand.",
        )
    document.put_validation(sum(found.weights.values()), found.weights)
    plan = make_plan(document.check(), folder, keep=keep)
    if plan.refused:
        raise UsageError(f"{_NOTHING}: {refusal(plan)}", where=str(file))
    return PlannedValidation(document, [item for item in plan.items if item.kind == "validation"])


def _refuse_unknown(file: Path, found: SampleSizes) -> None:
    """UsageError unless every dataset is known to have as many examples as it needs."""
    where = str(file)
    if few := [need.name for need in found.datasets if need.needed is None]:
        raise UsageError(
            f"{_NOTHING}: {', '.join(few)}: too few scored examples to know how many it takes",
            where=where,
            hint="Score the pilot on more of them, or write the table by hand.",
        )
    if lacking := [need.name for need in found.datasets if need.is_lacking]:
        raise UsageError(
            f"{_NOTHING}: {', '.join(lacking)}: fewer examples than it takes",
            where=where,
            hint="Ask for a larger difference, add documents, or raise max_fraction in [validation].",
        )
    if unread := [need.name for need in found.datasets if need.available is None]:
        raise UsageError(
            f"{_NOTHING}: {', '.join(unread)}: not prepared here, so that nobody knows how many examples there are",
            where=where,
            hint="Run `lossary prepare` first.",
        )
