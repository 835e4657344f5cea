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
    from lossary.api.evaluate import evaluate
    from lossary.api.functions import (
        check,
        compare,
        diagnose,
        import_files,
        mixture,
        new_study,
        open_study,
        rank,
        report,
        table,
        working_copy,
    )
    from lossary.api.results import (
        CheckResult,
        ComparisonResult,
        DiagnosisResult,
        ImportResult,
        MixtureResult,
        OpenStudy,
        RankingResult,
        ReportFiles,
        TableResult,
    )
    from lossary.backends.keras.scorer import KerasScorer
    from lossary.backends.torch.module_scorer import ModuleScorer
    from lossary.backends.torch.scorer import HuggingFaceScorer
    from lossary.errors import LossaryError
    from lossary.version import __version__

__all__ = [
    "CheckResult",
    "ComparisonResult",
    "DiagnosisResult",
    "HuggingFaceScorer",
    "ImportResult",
    "KerasScorer",
    "LossaryError",
    "MixtureResult",
    "ModuleScorer",
    "OpenStudy",
    "RankingResult",
    "ReportFiles",
    "TableResult",
    "__version__",
    "check",
    "compare",
    "diagnose",
    "evaluate",
    "import_files",
    "mixture",
    "new_study",
    "open_study",
    "rank",
    "report",
    "table",
    "working_copy",
]

_ELSEWHERE = {
    "LossaryError": "lossary.errors",
    "__version__": "lossary.version",
    "evaluate": "lossary.api.evaluate",
}
# By name: the module, and the extra whose framework it imports.
_SCORERS = {
    "HuggingFaceScorer": ("lossary.backends.torch.scorer", "torch"),
    "KerasScorer": ("lossary.backends.keras.scorer", "keras"),
    "ModuleScorer": ("lossary.backends.torch.module_scorer", "torch"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _SCORERS:
        from lossary.backends.api import require_packages

        module, framework = _SCORERS[name]
        require_packages(framework, name)
    elif name in _ELSEWHERE:
        module = _ELSEWHERE[name]
    else:
        module = "lossary.api.functions" if name.islower() else "lossary.api.results"
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
