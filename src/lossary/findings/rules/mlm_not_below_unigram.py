"""MLM loss that is not below the entropy of the masked pieces' frequencies: nothing but frequencies was learned."""

from collections.abc import Mapping

from lossary.findings.model import Finding, Key, Rule, passed, skipped
from lossary.findings.subject import Subject

__all__ = ["RULE"]

_ID = ("L103", "mlm-not-below-unigram")


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted  # Not to be shown below is no rejection.
    cells = [cell for cell in subject.cells("mlm_loss") if cell.floor is not None and cell.standing is not None]
    if not cells:
        return [skipped(_ID, "MLM loss", "nobody counted the pieces of the validation set, or no interval is known")]
    findings = []
    for run in dict.fromkeys(cell.run for cell in cells):
        of_run = [cell for cell in cells if cell.run == run]
        stuck = [cell for cell in of_run if cell.standing != "below"]
        if not stuck:
            findings.append(passed(_ID, run, f"below on {len(of_run)} of {len(of_run)} datasets", "below"))
            continue
        findings.append(
            Finding(
                code=_ID[0],
                name=_ID[1],
                severity="warning" if len(stuck) == len(of_run) else "info",
                subject=f"{run} · {len(stuck)} of {len(of_run)} datasets",
                measured=", ".join(f"{cell.dataset} {cell.value:.3f}" for cell in stuck),
                expected=", ".join(f"{cell.dataset} below {cell.floor:.3f}" for cell in stuck) + " (unigram entropy)",
                test="the 95 % interval is not below",
                means="no better than the frequencies of pieces: the plateau before context is used",
                ranked=(
                    "trained too briefly: the plateau lasts millions of tokens in small models",
                    "learning rate too high for the width: the plateau lasts for ever",
                    "masked pieces or labels of the dataset are made wrongly",
                ),
                next_step=f"lossary report {subject.where}: MLM curves by dataset",
                n=sum(cell.n for cell in stuck),
                runs=[run],
                datasets=[cell.dataset for cell in stuck],
                evidence=[{"dataset": c.dataset, "value": c.value, "floor": c.floor} for c in stuck],
            )
        )
    return findings


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about="MLM loss whose 95 % interval is not below the unigram entropy of the masked pieces; a warning if that is so "
    "on all datasets of a run.",
    conclude=_conclude,
)
