"""Upstream behaviour rebuilt, a few lines each: what public code really did, on a side that is healthy otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["CASES", "Case"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case; `adapter` is loaded like any user's."""

    code: str  # the fault's, in the list
    name: str
    title: str
    source: str
    side: str  # "torch" or "keras"
    stage: str
    expected: frozenset[str]  # any of these names is right
    recipe: Mapping[str, Any] = field(default_factory=dict)
    micro_batches: int = 1

    @property
    def adapter(self) -> Path:
        return Path(__file__).parent / f"case_{self.name}.py"


CASES: tuple[Case, ...] = (
    Case(
        code="D2",
        name="repeated_line",
        title="one-line documents are paired with themselves",
        source="transformers' LineByLineWithSOPTextDataset; brightmart/albert_zh#23",
        side="torch",
        stage="examples",
        expected=frozenset({"identical-segments"}),
    ),
    Case(
        code="D10",
        name="title_line",
        title="first lines are taken for titles",
        source="transformers' LineByLineWithSOPTextDataset",
        side="torch",
        stage="examples",
        expected=frozenset({"first-line-dropped", "dataset-missing"}),
    ),
    Case(
        code="F1",
        name="sop_collator",
        title="attention of DataCollatorForSOP",
        source="huggingface/transformers#6168",
        side="torch",
        stage="examples",
        expected=frozenset({"padding-attended", "masked-tokens-hidden"}),
    ),
    Case(
        code="K8",
        name="pad_targets",
        title="padding among the targets",
        source="huggingface/transformers#11155",
        side="torch",
        stage="examples",
        expected=frozenset({"padding-is-target"}),
    ),
    Case(
        code="M1",
        name="masked_lm_head",
        title="KerasHub's MaskedLMHead as it comes",
        source="keras-team/keras-hub#642",
        side="keras",
        stage="forward",
        expected=frozenset({"epsilon-head"}),
    ),
    Case(
        code="O5",
        name="keras_lamb",
        title="keras.optimizers.Lamb for google-research's",
        source="NVIDIA/apex#819, the same class of fault",
        side="keras",
        stage="update",
        expected=frozenset({"bias-correction", "trust-ratio", "decay-in-update"}),
        recipe={"optimizer": {"name": "lamb"}},
    ),
    Case(
        code="M8",
        name="backbone_only",
        title="the converter brings no heads",
        source="huggingface/transformers#9319",
        side="keras",
        stage="weights",
        expected=frozenset({"parameters-not-loaded"}),
    ),
    Case(
        code="M4",
        name="heads",
        title="32 heads for 16",
        source="google-research/albert#180, huggingface/transformers#3164",
        side="torch",
        stage="forward",
        expected=frozenset({"heads"}),
    ),
    Case(
        code="K6",
        name="labels_after_masking",
        title="labels are stored after masking",
        source="lonePatient/albert_pytorch#1",
        side="torch",
        stage="examples",
        expected=frozenset({"labels-are-masked-input"}),
    ),
    Case(
        code="O8",
        name="scheduler_steps",
        title="a step of the schedule for every process",
        source="huggingface/accelerate#2926",
        side="torch",
        stage="schedule",
        expected=frozenset({"schedule-times-n"}),
    ),
    Case(
        code="D3",
        name="random_second",
        title="lone sentences get a random second one",
        source="google-research/albert#234",
        side="torch",
        stage="examples",
        expected=frozenset({"lone-sentence-random-second"}),
    ),
    Case(
        code="L8",
        name="summed_accumulation",
        title="losses of micro batches are summed",
        source="huggingface/transformers#37766",
        side="torch",
        stage="gradients",
        expected=frozenset({"loss-times-micro-batches"}),
        micro_batches=3,
    ),
)
