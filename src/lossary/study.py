"""The study file: what is trained on what, by which recipe, in which runs.

It checks the file and resolves what a run overrides; it opens no source and knows no framework.

    study = load_study(Path("study.toml"))
    study.recipe_of("torch_xxl").batch_size
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import quote

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from lossary.families import family_names, lacking_on_keras, setting_names
from lossary.naming import Names
from lossary.objectives import metrics_of

__all__ = [
    "BACKENDS",
    "NOT_OF_WEIGHTS",
    "Backend",
    "Check",
    "Dataset",
    "EncoderModel",
    "Links",
    "Mixture",
    "Objective",
    "Optimizer",
    "Precision",
    "Recipe",
    "Run",
    "ScaledSize",
    "SizeName",
    "Start",
    "Study",
    "Tokenizer",
    "Validation",
    "study_schema",
]

Objective = Literal["mlm", "sop"]
_TRAINED = "|".join(metrics_of(get_args(Objective)))
Backend = Literal["torch", "tensorflow", "jax"]
Precision = Literal["fp32", "bf16"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
_DEVICES = {
    "torch": ("cpu", "cuda", "mps", "xpu"),
    "tensorflow": ("cpu", "cuda", "gpu"),
    "jax": ("cpu", "cuda", "gpu", "tpu"),
}
SizeName = Literal["base", "large", "xlarge", "xxlarge"]
# Names become parts of paths and of series such as eval/<dataset>/mlm_loss.
Share = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class Tokenizer(_Table):
    """A SentencePiece unigram model trained on the mixture, or an existing tokenizer."""

    vocabulary_size: int = Field(
        30000,
        ge=32,
        le=1_000_000,
        description="Pieces, special ones included; left out, a small text has as many as it allows.",
    )
    model: str | None = Field(
        None, description="Path of a tokenizer.json, its folder, or a SentencePiece model; nothing is trained then."
    )
    lowercase: bool = Field(True, description="Lower-case the text, as ALBERT does. Ignored with `model`.")
    sample_bytes: int = Field(64_000_000, ge=10_000, description="Text to train the tokenizer on, in bytes.")


class Dataset(_Table):
    """A named source of documents."""

    source: str | list[str] = Field(
        description="Parquet, Arrow, JSON (Lines), CSV, TSV, WebDataset or plain text (.gz, .zst), or a folder that is "
        "a dataset: path, glob, URL, yt://CLUSTER/TABLE or builtin:NAME."
    )
    text: str | list[str] = Field(
        "text",
        description="The field of the text, or two fields that form a pair; with `join` several that make one text. "
        '`"meta.text"` is a field inside another.',
    )
    join: str | None = Field(
        None, description="What stands between the fields of `text` in one text; parts that are missing are skipped."
    )
    where: str | None = Field(
        None,
        description="Only rows that pass a condition on their fields, as \"lang = 'de' and length(text) > 200\".",
    )
    limit: int | None = Field(
        None, ge=1, description="The first so many documents, of rows that `where` passes, in the order of the files."
    )
    documents: Literal["lines", "blank_lines", "file"] = Field(
        "lines", description="Plain text only: what separates documents."
    )
    tokenizer: str | None = Field(
        None,
        description="Megatron's .bin and .idx only: the SentencePiece model or tokenizer.json that made their tokens.",
    )
    link: str | None = Field(None, description="Where the dataset is described; the table links its name there.")
    drawn_as: str | None = Field(
        None,
        description="The name that its random draws and its files go by, where it was called otherwise when these were "
        "made; `lossary mv` writes it.",
    )

    @model_validator(mode="after")
    def _fields(self) -> Self:
        if not self.sources:
            raise ValueError("no source is named")
        names = list(self.fields)
        if self.join is None and not 1 <= len(names) <= 2:
            raise ValueError(
                f"text names {len(names)} fields; one field, or two that form a pair, are expected, "
                'or join = "\\n\\n" to make one text of them'
            )
        if self.join is not None and len(names) < 2:
            raise ValueError(f"join makes one text of several fields, and text names {len(names)}")
        if self.join is not None and re.search(r"\\[nt]", self.join):
            raise ValueError(f'join is {self.join!r}, a backslash and a letter; a line break is join = "\\n"')
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"text names the field {twice!r} twice")
        return self

    @field_validator("where")
    @classmethod
    def _condition(cls, where: str | None) -> str | None:
        if where is not None:
            # DuckDB takes a tenth of a second to be imported, and most studies have no condition.
            from lossary.expressions import parse_condition

            parse_condition(where)
        return where

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.text,) if isinstance(self.text, str) else tuple(self.text)

    @property
    def page(self) -> str | None:
        """Where the dataset is described: its link, else the page of its cluster for a table of YTsaurus."""
        found = re.fullmatch(r"yt://([^/]+)/(.+?)/*", self.sources[0])
        if self.link is not None or found is None:
            return self.link
        scheme = "http" if ":" in found[1] else "https"
        return f"{scheme}://{found[1]}/?page=navigation&path=//{quote(found[2])}"

    @property
    def is_pair(self) -> bool:
        return len(self.fields) == 2 and self.join is None


class Mixture(_Table):
    """Sampling shares in training."""

    shares: Literal["rows", "examples"] | dict[str, Share] = Field(
        "rows", description="In proportion to training rows, to training examples, or weights by dataset."
    )


class Validation(_Table):
    """The frozen examples that every run is scored on."""

    examples: int = Field(20000, ge=1, le=100_000_000, description="Examples in all.")
    shares: Literal["train"] | dict[str, Share] = Field(
        "train", description="As in training, or weights by dataset; they weight the total by validation share."
    )
    max_fraction: float = Field(
        0.2, gt=0, lt=1, description="At most this fraction of a dataset's distinct documents leaves training."
    )


class Optimizer(_Table):
    """The update law and its learning rate: linear warm-up, then linear decay to 0 counted from step 0."""

    name: Literal["lamb", "adamw"] = Field("lamb", description="google-research's LAMB, or AdamW as PyTorch writes it.")
    learning_rate: float = Field(0.00176, gt=0, allow_inf_nan=False)
    warmup: int = Field(0, ge=0, description="Steps.")
    weight_decay: float = Field(0.01, ge=0, allow_inf_nan=False)
    clip_norm: float | None = Field(1.0, gt=0, description="Clip gradients by their global norm; 0 is not a norm.")
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    epsilon: float = Field(1e-6, gt=0, allow_inf_nan=False)


class Recipe(_Table):
    """How a run is trained."""

    objective: list[Objective] = Field(["mlm", "sop"], description='["mlm", "sop"] or ["mlm"].')
    sequence_length: int = Field(512, ge=8, le=8192, description="Tokens of an example, special ones included.")
    batch_size: int = Field(4096, ge=1, description="Examples a step.")
    steps: int = Field(125_000, ge=1, le=1_000_000_000)
    optimizer: Optimizer = Optimizer()
    precision: Precision = "fp32"
    short_rate: Rate = Field(0.1, description="Share of examples made shorter than the sequence length on purpose.")
    mask_rate: float = Field(0.15, gt=0, lt=1, description="Masked share of an example's true length.")
    max_ngram: int = Field(3, ge=1, le=10, description="Longest masked n-gram, in words.")
    max_predictions: int | None = Field(None, ge=1, description="At most so many masked positions an example.")
    initializer_range: float | None = Field(
        None, gt=0, description="Standard deviation of the initial weights; chosen from the width if absent."
    )
    checkpoint_every: int | None = Field(None, ge=1, description="Steps; a tenth of all steps if absent.")
    keep_checkpoints: int = Field(2, ge=1)
    evaluate_every: int | None = Field(
        None, ge=1, description="Steps; the worker that trains scores at each of these steps, and at the last."
    )
    keep_best: str | None = Field(
        None,
        pattern=rf"^({_TRAINED})(:(validation_share|train_share|macro))?$",
        description="A metric, or metric:weighting (by validation share if absent); the checkpoint of the step whose "
        "total is best is kept beside the last ones. Needs `evaluate_every`.",
    )
    seed: Seed | None = Field(
        None, description="Of weights, order, splits and masks in training; the study's if absent."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "mlm" not in self.objective or len(set(self.objective)) != len(self.objective):
            raise ValueError(f'objective is {self.objective}; ["mlm", "sop"] or ["mlm"] is expected')
        if self.optimizer.warmup > self.steps:
            raise ValueError(
                f"the warm-up of {self.optimizer.warmup} steps is longer than the {self.steps} steps of training"
            )
        if self.keep_best is not None and self.evaluate_every is None:
            raise ValueError("keep_best needs evaluate_every: only steps that are scored can be compared")
        if self.keep_best is not None and self.keep_best.startswith("sop") and not self.has_sop:
            raise ValueError(f'keep_best is {self.keep_best!r} and the objective has no "sop"')
        return self

    @property
    def has_sop(self) -> bool:
        return "sop" in self.objective


# Settings of a recipe that change what is kept of a run, and not its weights.
NOT_OF_WEIGHTS = frozenset({"checkpoint_every", "keep_checkpoints", "evaluate_every", "keep_best"})


class ScaledSize(_Table):
    """A smaller model in the shape of a real size."""

    from_: SizeName = Field(alias="from", description="The size it is scaled from.")
    width: float = Field(
        1.0, gt=0, le=4, allow_inf_nan=False, description="Factor of hidden and intermediate size and of heads."
    )
    depth: float = Field(1.0, gt=0, le=4, allow_inf_nan=False, description="Factor of the number of layers.")

    @property
    def label(self) -> str:
        """As `xlarge ×0.0625×0.25`: width, then depth."""
        return f"{self.from_} ×{self.width:g}×{self.depth:g}"


class EncoderModel(_Table):
    """A masked language model of transformers, by its family or a configuration file; any of its settings beside it."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    family: str | None = Field(None, description='`model_type` in transformers: "bert", "modernbert", …')
    config: str | None = Field(None, description="Path of a config.json, from the study's folder.")

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of its configuration that the study file gives."""
        return dict(self.model_extra or {})

    @property
    def label(self) -> str:
        """As `modernbert 4×256`: layers, then width."""
        sizes = [self.settings.get(key) for key in ("num_hidden_layers", "hidden_size")]
        shown = "×".join(str(size) for size in sizes if size is not None)
        return " ".join(part for part in (self.family, self.config, shown) if part)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.family is None and self.config is None:
            raise ValueError('a model is family = "…" or config = "config.json"')
        if self.family is not None:
            check_family(self.family)
            for key in self.settings:
                check_setting(self.family, key)
        return self


class _Unknown(ValueError):
    """A name that is not known, with what may be meant."""

    def __init__(self, message: str, name: str, known: Sequence[str]) -> None:
        super().__init__(message)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        self.hint = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(sorted(known))}."


def check_family(family: str) -> None:
    """Raises ValueError unless lossary trains it, as far as can be told here."""
    if family == "albert":
        error = _Unknown("ALBERT is given by its size, and not as a model", "size", ["size"])
        error.hint = 'size = "base", or size = { from = "base", width = 0.25 }.'
        raise error
    known = family_names()
    if known and family not in known:
        raise _Unknown(f"transformers knows no masked language model of the family {family!r}", family, known)


def check_setting(family: str, key: str) -> None:
    """Raises ValueError unless the configuration of a family has a setting, as far as can be told here."""
    known = setting_names(family)
    if known and key not in known:
        raise _Unknown(f"unknown key {key!r}: {family} has no such setting", key, sorted(known))


def check_backend(backend: Backend, family: str, settings: Mapping[str, Any]) -> None:
    """Raises ValueError unless a backend trains such a model."""
    lacking = None if backend == "torch" else lacking_on_keras(family, settings)
    if lacking is not None:
        raise ValueError(f"backend is {backend!r}; {lacking}")


def _overrides_of(model: type[BaseModel], name: str, **nested: Any) -> Any:
    """A table with the fields of `model`, each optional: what a run may change of it."""
    fields: dict[str, Any] = {
        key: (Annotated[(field.annotation, None, *field.metadata)] | None, Field(None, description=field.description))
        for key, field in model.model_fields.items()
    }
    return create_model(name, __base__=_Table, **(fields | nested))


_OptimizerOverride = _overrides_of(Optimizer, "OptimizerOverride")
_RecipeOverride = _overrides_of(Recipe, "RecipeOverride", optimizer=(_OptimizerOverride | None, None))


class Start(_Table):
    """A checkpoint of another run."""

    run: str = Field(description="The run whose checkpoint it is.")
    step: int | None = Field(None, ge=1, description="Its step; the newest when training begins, if absent.")


class Run(_RecipeOverride):  # type: ignore[valid-type, misc]
    """One model trained by one recipe on one backend at one size; anything of the recipe may be overridden here."""

    backend: Backend
    size: SizeName | ScaledSize | None = Field(None, description="Of an ALBERT; or `model`.")
    model: EncoderModel | None = Field(
        None, description="Another encoder than ALBERT, trained by MLM; on TensorFlow and JAX BERT and RoBERTa."
    )
    datasets: list[str] | None = Field(None, description="Train on part of the mixture; scored on all of it.")
    start: Start | None = Field(
        None, description="Go on from a checkpoint of another run: weights, moments and step, by the recipe given here."
    )
    link: str | None = Field(None, description="Where the run is kept; its name links there.")
    device: str | None = Field(None, description='"cpu", "cuda:1", …; the best there is if absent.')
    ranks: int = Field(
        1,
        ge=1,
        le=1024,
        description="Processes that train it together, each its rows of a batch, a GPU each. On torch.",
    )

    cpus: int | None = Field(None, ge=1, description="Cores that a cluster keeps for it; one for each rank if absent.")
    gpus: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="GPUs that a cluster keeps for it; one a rank if it has any."
    )
    memory: ByteSize | None = Field(None, description='Memory that a cluster keeps for all of it: "16GB".')

    @property
    def size_label(self) -> str:
        """Its size or model, for people."""
        if self.model is not None:
            return self.model.label
        return self.size.label if isinstance(self.size, ScaledSize) else str(self.size)

    @property
    def size_value(self) -> Any:
        """Its size or model, as the study file has it."""
        chosen = self.size if self.model is None else self.model
        return chosen.model_dump(by_alias=True, exclude_none=True) if isinstance(chosen, BaseModel) else chosen

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.size is None) == (self.model is None):
            raise ValueError("a run has a size (of ALBERT) or a model (of transformers), one of them")
        if self.model is not None and self.model.family is not None and self.model.config is None:
            check_backend(self.backend, self.model.family, self.model.settings)
        return self

    @model_validator(mode="after")
    def _can_be_shared(self) -> Self:
        if self.ranks > 1 and self.backend != "torch":
            raise ValueError(f"{self.ranks} processes train together on torch only; backend is {self.backend!r}")
        if self.ranks > 1 and ":" in (self.device or ""):
            raise ValueError(
                f"device {self.device!r} is one device, and {self.ranks} ranks have one each: leave it out"
            )
        return self

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str | None, found: ValidationInfo) -> str | None:
        """How a device is written; whether the machine has it is seen where the run starts."""
        kinds = _DEVICES.get(found.data.get("backend", ""))
        if device is None or kinds is None:
            return device
        kind, colon, number = device.partition(":")
        if kind not in kinds or (colon and (kind == "cpu" or not re.fullmatch(r"[0-9]{1,3}", number))):
            known = ", ".join(name if name == "cpu" else f"{name}, {name}:1" for name in kinds)
            raise ValueError(f"{device!r} is no device of {found.data['backend']}; known: {known}")
        return device


class Links(_Table):
    """Templates of links."""

    run: str | None = Field(None, description="Link of a number, with {run} and {metric}.")

    @model_validator(mode="after")
    def _template(self) -> Self:
        for field in re.findall(r"\{([^{}]*)\}", self.run or ""):
            if field not in ("run", "metric", "dataset", "step"):
                raise ValueError(
                    f"the template names {{{field}}}; {{run}}, {{metric}}, {{dataset}} and {{step}} are known"
                )
        return self


_Margin = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Engine(_Table):
    """Where work runs."""

    kind: Literal["local", "ray"] = "local"
    address: str | None = Field(
        None, description='Of a Ray cluster, "auto" for that of this machine; one of this machine alone if absent.'
    )

    @field_validator("address")
    @classmethod
    def _no_client(cls, address: str | None) -> str | None:
        if address is not None and address.startswith("ray://"):
            raise ValueError(
                f"{address!r} is an address of Ray Client; start lossary on a machine of the cluster with "
                'address = "auto", or as a job of `ray job submit`'
            )
        return address


class Check(_Table):
    """What `lossary check` is to do."""

    ignore: dict[str, Annotated[str, Field(min_length=1)]] = Field(
        {}, description="Rules not to fail on, by code or name, each with the reason why."
    )
    within: _Margin | dict[str, _Margin] | None = Field(
        None,
        description="Runs are to be equal to the base to within so many nats (bits a byte) of every loss, or to within "
        "a margin for each metric named; L108 says where they are not, or where nobody can say yet.",
    )

    @property
    def margins(self) -> dict[str, float]:
        """By metric, "" for every loss; empty if equality is not asked for."""
        if self.within is None:
            return {}
        return dict(self.within) if isinstance(self.within, dict) else {"": self.within}


class Study(_Table):
    """A whole study file."""

    name: str = Field(min_length=1, max_length=200)
    seed: Seed = 17
    tokenizer: Tokenizer = Tokenizer()
    datasets: dict[str, Dataset] = Field(min_length=1)
    mixture: Mixture = Mixture()
    validation: Validation = Validation()
    recipe: Recipe = Recipe()
    runs: dict[str, Run] = Field(
        {}, description="What is trained; a study without runs scores checkpoints from elsewhere."
    )
    links: Links = Links()
    check: Check = Check()
    engine: Engine = Engine()
    # Present names by what datasets are drawn as, of a study that goes by the latter.
    _called: dict[str, str] = PrivateAttr(default_factory=dict)

    def drawn(self) -> "Study":
        """The same study with each dataset under the name that it is drawn as: what draws, digests and files go by.

        It is equal to what the study was before anything was renamed, so that whatever is made of it is the same.
        """
        names = {name: dataset.drawn_as or name for name, dataset in self.datasets.items()}
        if all(name == drawn for name, drawn in names.items()):
            return self

        def shares(given: Any) -> Any:
            return given if isinstance(given, str) else {names[name]: share for name, share in given.items()}

        study = self.model_copy(
            update={
                "datasets": {
                    names[name]: dataset.model_copy(update={"drawn_as": None})
                    for name, dataset in self.datasets.items()
                },
                "mixture": self.mixture.model_copy(update={"shares": shares(self.mixture.shares)}),
                "validation": self.validation.model_copy(update={"shares": shares(self.validation.shares)}),
                "runs": {
                    run: settings.model_copy(update={"datasets": [names[name] for name in settings.datasets]})
                    if settings.datasets
                    else settings
                    for run, settings in self.runs.items()
                },
            }
        )
        study._called = {drawn: name for name, drawn in names.items()}
        return study

    @property
    def names(self) -> Names:
        """How present names and those that draws and files go by translate."""
        drawn = {name: dataset.drawn_as or name for name, dataset in self.datasets.items()}
        return Names({name: other for name, other in drawn.items() if name != other})

    def called(self, dataset: str) -> str:
        """What users call a dataset that goes by the name that it is drawn as."""
        return self._called.get(dataset, dataset)

    def recipe_of(self, run: str) -> Recipe:
        """The recipe of a run, its overrides applied and its seed filled in."""
        override = self.runs[run].model_dump(include=set(Recipe.model_fields), exclude_none=True)
        recipe = self.recipe.model_dump()
        optimizer = recipe["optimizer"] | override.pop("optimizer", {})
        recipe |= override | {"optimizer": optimizer}
        if recipe["seed"] is None:
            recipe["seed"] = self.seed
        return Recipe.model_validate(recipe)

    def datasets_of(self, run: str) -> list[str]:
        """The datasets a run trains on, in the study's order."""
        chosen = self.runs[run].datasets
        return [name for name in self.datasets if chosen is None or name in chosen]


def study_schema() -> dict[str, Any]:
    """The JSON schema of a study file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Study.model_json_schema(by_alias=True)
