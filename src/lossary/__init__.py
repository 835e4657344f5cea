"""lossary: what each dataset costs a masked language model, in each framework and size, and why.

    import lossary

    table = lossary.table("my-study")
    table.to_pandas()

Importing this package loads no framework and touches no environment variable; what is named here is loaded when it is
first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossary.api.functions import check, compare, diagnose, import_files, new_study, open_study, rank, report, table
    from lossary.api.results import (
        CheckResult,
        ComparisonResult,
        DiagnosisResult,
        ImportResult,
        OpenStudy,
        RankingResult,
        ReportFiles,
        TableResult,
    )
    from lossary.errors import LossaryError
    from lossary.version import __version__

__all__ = [
    "CheckResult",
    "ComparisonResult",
    "DiagnosisResult",
    "ImportResult",
    "LossaryError",
    "OpenStudy",
    "RankingResult",
    "ReportFiles",
    "TableResult",
    "__version__",
    "check",
    "compare",
    "diagnose",
    "import_files",
    "new_study",
    "open_study",
    "rank",
    "report",
    "table",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "LossaryError":
        module = "lossary.errors"
    elif name == "__version__":
        module = "lossary.version"
    else:
        module = "lossary.api.functions" if name.islower() else "lossary.api.results"
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
