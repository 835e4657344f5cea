"""What a run trains: an ALBERT by its shape, or another masked language model of transformers by its configuration.

    shape = run_shape(study, folder, "modern", vocabulary_size=30000)

This module reads no weights and imports no framework. Of an encoder it knows what the study file and a config.json say;
`backends/torch/encoders.py` fills in what its family has beyond that, and says where it had to differ.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lossary.errors import DataError, StudyError
from lossary.files import digest_json, read_json
from lossary.folder import StudyFolder
from lossary.models.parameters import hf_config, is_excluded
from lossary.models.shapes import AlbertShape, shape_of
from lossary.study import EncoderModel, Study, check_backend, check_family, check_setting
from lossary.vocabulary.api import Specials

__all__ = [
    "ModelShape",
    "SPECIALS",
    "EncoderShape",
    "run_shape",
    "shape_value",
    "shape_from",
    "config_of",
    "objectives_of",
    "takes_no_decay",
]

# Of the vocabularies that lossary trains.
SPECIALS = Specials(pad=0, unk=1, cls=2, sep=3, mask=4)
# What transformers notes about a file, and no part of a model.
_NOTES = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "model_type"}


@dataclass(frozen=True, kw_only=True)
class EncoderShape:
    """A masked language model of transformers: its family and settings, and what the study decides for it.

    `settings` is JSON, of what was asked for or, once the backend has filled it in, of the whole configuration.
    `strict`: whether settings that the family does not know are refused; of a file they are left out, and named.
    """

    family: str
    settings: str
    vocabulary_size: int
    max_positions: int  # tokens of the longest example
    specials: Specials = SPECIALS
    initializer_range: float | None = None
    strict: bool = True

    @property
    def config(self) -> dict[str, Any]:
        """The settings as an object."""
        found: dict[str, Any] = json.loads(self.settings)
        return found

    @property
    def digest(self) -> str:
        return digest_json(shape_value(self))

    def with_config(self, config: Mapping[str, Any]) -> "EncoderShape":
        """The same with other settings."""
        kept = {key: value for key, value in config.items() if key not in _NOTES}
        return replace(self, settings=json.dumps(kept, sort_keys=True), strict=True)


ModelShape = AlbertShape | EncoderShape


def run_shape(
    study: Study, folder: StudyFolder, run: str, *, vocabulary_size: int, specials: Specials = SPECIALS
) -> ModelShape:
    """What a run trains. StudyError if its config.json is not there or not that of a model that lossary trains."""
    settings, recipe = study.runs[run], study.recipe_of(run)
    longest = max(recipe.sequence_length, study.recipe.sequence_length)
    if settings.size is not None:
        return shape_of(
            settings.size,
            vocabulary_size=vocabulary_size,
            pad_id=specials.pad,
            max_positions=longest,
            initializer_range=recipe.initializer_range,
        )
    assert settings.model is not None
    where = f"{folder.study_file}: $.runs.{run}.model"
    family, config = _configured(settings.model, folder, where=where)
    try:
        check_backend(settings.backend, family, config)
    except ValueError as error:
        raise StudyError(str(error), where=where) from None
    shape = EncoderShape(
        family=family,
        settings="{}",
        vocabulary_size=vocabulary_size,
        max_positions=longest,
        specials=specials,
        initializer_range=recipe.initializer_range,
    )
    return replace(shape.with_config(config), strict=settings.model.config is None)


def _configured(model: EncoderModel, folder: StudyFolder, *, where: str) -> tuple[str, dict[str, Any]]:
    """Family and settings of a model: those of its file, with those of the study file over them."""
    found: dict[str, Any] = {}
    if model.config is not None:
        path = folder.root / model.config
        if not path.is_file():
            raise StudyError(f"no such file: {path}", where=f"{where}.config")
        try:
            value = read_json(path)
        except DataError as error:
            raise StudyError(error.message, where=f"{where}.config") from None
        if not isinstance(value, dict):
            raise StudyError(f"{path} is not a JSON object", where=f"{where}.config")
        found = value
    family = model.family or found.get("model_type")
    if not isinstance(family, str):
        raise StudyError(
            "the file has no model_type", where=f"{where}.config", hint='Say what it is of: family = "bert".'
        )
    if found.get("model_type", family) != family:
        raise StudyError(f"the file is of {found['model_type']!r}, and family is {family!r}", where=where)
    try:
        check_family(family)
        for key in model.settings:
            check_setting(family, key)
    except ValueError as error:
        raise StudyError(str(error), where=where, hint=getattr(error, "hint", None)) from None
    return family, found | model.settings


def shape_value(shape: ModelShape) -> dict[str, Any]:
    """An architecture as JSON holds it."""
    return shape.described if isinstance(shape, AlbertShape) else asdict(shape) | {"settings": shape.config}


def shape_from(value: Mapping[str, Any]) -> ModelShape:
    """The architecture that JSON holds."""
    if "family" not in value:
        return AlbertShape(**value)
    fields = dict(value) | {"settings": json.dumps(value["settings"], sort_keys=True)}
    return EncoderShape(**fields | {"specials": Specials(**value["specials"])})


def config_of(shape: ModelShape) -> dict[str, Any]:
    """`config.json` with which transformers opens a checkpoint."""
    if isinstance(shape, AlbertShape):
        return hf_config(shape)
    return {**shape.config, "model_type": shape.family, "dtype": "float32"}


def objectives_of(shape: ModelShape) -> tuple[str, ...]:
    """What its heads are trained for: lossary trains no head for the order of segments but ALBERT's."""
    return ("mlm", "sop") if isinstance(shape, AlbertShape) else ("mlm",)


def takes_no_decay(name: str, dimensions: int) -> bool:
    """Whether a parameter takes part in neither weight decay nor LAMB's adaptation.

    Biases and what normalisation has, by name; and every other vector, since families call these as they like.
    """
    return is_excluded(name) or dimensions < 2
