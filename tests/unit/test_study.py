"""The study file: what is accepted, and that every error names its place."""

import json
import unicodedata
from pathlib import Path

import jsonschema
import pytest

from lossary.errors import StudyError
from lossary.study import Recipe, Run, study_schema
from lossary.study_file import check_name, load_study, parse_study

BASE = """
name = "x"
[datasets.a]
source = "builtin:names"
text = ["name", "summary"]
[datasets.b]
source = ["b.jsonl", "c.parquet"]
[runs.r]
backend = "torch"
size = "xlarge"
"""

WRONG = {
    "unknown key at the top": ("foo = 1\n" + BASE, "$.foo", "unknown key"),
    "unknown key of a run": (BASE + "stepz = 3\n", "$.runs.r.stepz", "Did you mean 'steps'"),
    "unknown key of an optimizer": (
        BASE + "optimizer = { learningrate = 1 }\n",
        "$.runs.r.optimizer.learningrate",
        "learning_rate",
    ),
    "unknown key of a dataset": (BASE.replace("text =", "txt ="), "$.datasets.a.txt", "Did you mean 'text'"),
    "unknown key of a size": (
        BASE.replace('"xlarge"', '{ form = "xlarge" }'),
        "$.runs.r.size.form",
        "Did you mean 'from'",
    ),
    "unknown backend": (BASE.replace('"torch"', '"tf"'), "$.runs.r.backend", "'tensorflow'"),
    "unknown size": (BASE.replace('"xlarge"', '"xlage"'), "$.runs.r.size", "'xlarge'"),
    "unknown scaled size": (BASE.replace('"xlarge"', '{ from = "xlage" }'), "$.runs.r.size.from", "'xlarge'"),
    "a device of another backend": (BASE + 'device = "gpu"\n', "$.runs.r.device", "known: cpu, cuda"),
    "a device without its number": (BASE + 'device = "cuda:"\n', "$.runs.r.device", "known: cpu, cuda"),
    "a device that nobody has": (BASE + 'device = "warp:0"\n', "$.runs.r.device", "'warp:0' is no device of torch"),
    "a number as text": (BASE + 'steps = "many"\n', "$.runs.r.steps", "integer"),
    "a number as a truth value": (BASE + "steps = true\n", "$.runs.r.steps", "integer"),
    "zero steps": (BASE + "steps = 0\n", "$.runs.r.steps", "greater than or equal to 1"),
    "NaN": (BASE + "optimizer = { learning_rate = nan }\n", "$.runs.r.optimizer.learning_rate", "finite"),
    "unknown dataset of a run": (BASE + 'datasets = ["c"]\n', "$.runs.r.datasets[0]", "Datasets: a, b"),
    "no dataset for a run": (BASE + "datasets = []\n", "$.runs.r.datasets", "no dataset is named"),
    "SOP alone": (BASE + '[recipe]\nobjective = ["sop"]\n', "$.recipe", '["mlm", "sop"]'),
    "warm-up longer than training": (BASE + "optimizer = { warmup = 9000000 }\n", "$.runs.r", "warm-up"),
    "share missing": (BASE + "[validation]\nshares = { a = 1 }\n", "$.validation.shares", "no share for b"),
    "share of no dataset": (BASE + "[mixture]\nshares = { a = 1, b = 1, c = 1 }\n", "$.mixture.shares.c", "no dataset"),
    "negative share": (BASE + "[validation]\nshares = { a = -1, b = 2 }\n", "$.validation.shares.a", "greater than 0"),
    "name that leaves the folder": (BASE + '[datasets."../x"]\nsource = "b"\n', '$.datasets["../x"]', "folder"),
    "absolute name": (BASE + '[datasets."/etc"]\nsource = "b"\n', '$.datasets["/etc"]', "folder"),
    "name that hides": (BASE + '[datasets.".x"]\nsource = "b"\n', "$.datasets", "folder"),
    "names that differ in case": (BASE + '[datasets.A]\nsource = "b"\n', "$.datasets.A", "case"),
    "three fields": (BASE.replace('["name", "summary"]', '["x", "y", "z"]'), "$.datasets.a", "3 fields"),
    "one field twice": (BASE.replace('["name", "summary"]', '["x", "x"]'), "$.datasets.a", "twice"),
    "no source": (BASE.replace('source = "builtin:names"', ""), "$.datasets.a.source", "missing"),
    "empty list of sources": (BASE.replace('"builtin:names"', "[]"), "$.datasets.a", "no source"),
    "template with an unknown field": (BASE + '[links]\nrun = "https://x/{page}"\n', "$.links", "{page}"),
    "a seed below zero": ("seed = -1\n" + BASE, "$.seed", "greater than or equal to 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_error_names_its_place_and_the_way_out(case: str) -> None:
    text, where, words = WRONG[case]
    with pytest.raises(StudyError) as caught:
        parse_study(text)
    assert (caught.value.where or "").startswith(where)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_value_that_is_nearly_an_allowed_one_names_it() -> None:
    for found, meant in (("pytorch", "torch"), ("Torch", "torch"), ("tensorfow", "tensorflow")):
        with pytest.raises(StudyError, match=f"Did you mean '{meant}'") as caught:
            parse_study(BASE.replace('"torch"', f'"{found}"'))
        assert found in caught.value.message


def test_every_fault_is_told_with_its_reason() -> None:
    text = BASE + "stepz = 3\nranks = 0\n[validation]\nexamples = -1\n[recipe]\nprecision = 'fp16'\n"
    with pytest.raises(StudyError) as caught:
        parse_study(text)
    told = str(caught.value).splitlines()
    assert told[0].startswith("$.runs.r.stepz: unknown key")
    assert any(line.startswith("  $.recipe.precision: Input should be 'fp32' or 'bf16'; found 'fp16'") for line in told)
    assert any(line.startswith("  $.validation.examples: Input should be greater") for line in told)
    assert any(line.startswith("  $.runs.r.ranks: ") for line in told)


def test_many_faults_are_counted() -> None:
    with pytest.raises(StudyError) as caught:
        parse_study(BASE + "".join(f"unknown_{number} = 1\n" for number in range(9)))
    assert str(caught.value).endswith("\n  and 4 more")


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text('name = "x"\nseed = = 3\n')
    with pytest.raises(StudyError, match=r"study\.toml: not TOML.*line 2"):
        load_study(tmp_path)


def test_a_file_of_another_kind_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "imported.json").write_text('{"schema": 2}')
    with pytest.raises(StudyError) as caught:
        load_study(tmp_path / "imported.json")
    assert caught.value.hint == f"A study file, or the folder of a study or of imports, is expected: {tmp_path}?"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_bytes(b"name = '\xff\xfe'")
    with pytest.raises(StudyError, match="not UTF-8 at byte 8"):
        load_study(tmp_path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="lossary init"):
        load_study(tmp_path)


def test_a_run_overrides_the_recipe_and_keeps_the_rest() -> None:
    study = parse_study(BASE + 'steps = 7\nprecision = "bf16"\noptimizer = { name = "adamw", warmup = 3 }\n')
    recipe = study.recipe_of("r")
    assert (recipe.steps, recipe.precision, recipe.optimizer.name, recipe.optimizer.warmup) == (7, "bf16", "adamw", 3)
    assert recipe.optimizer.learning_rate == study.recipe.optimizer.learning_rate
    assert recipe.sequence_length == study.recipe.sequence_length
    assert recipe.seed == study.seed


def test_every_field_of_the_recipe_can_be_overridden() -> None:
    assert set(Recipe.model_fields) <= set(Run.model_fields)


def test_a_run_trains_on_part_of_the_mixture_in_the_studys_order() -> None:
    study = parse_study(BASE + 'datasets = ["b", "a"]\n')
    assert study.datasets_of("r") == ["a", "b"]


def test_the_template_of_init_is_a_study_and_shows_every_key() -> None:
    text = _template()
    parse_study(text)
    for table in study_schema()["$defs"].values():
        if table.get("type") == "object" and not table["title"].endswith("Override"):
            for key in table["properties"]:
                assert f"{key} =" in text or f".{key}]" in text, f"{table['title']}.{key}"


def test_the_schema_accepts_what_the_parser_accepts() -> None:
    import tomllib

    schema = study_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tomllib.loads(BASE), schema)
    jsonschema.validate(tomllib.loads(_template()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(BASE + "stepz = 3\n"), schema)
    assert json.loads(json.dumps(schema)) == schema


def _template() -> str:
    import lossary.cli

    return (Path(lossary.cli.__file__).parent / "study.toml").read_text(encoding="utf-8")


def test_a_name_whose_accents_are_characters_of_their_own_is_told_how_to_be_written() -> None:
    composed = "größe"
    check_name(composed, where="$.runs")
    with pytest.raises(StudyError) as caught:
        check_name(unicodedata.normalize("NFD", composed), where="$.runs")
    assert composed in (caught.value.hint or "")
    assert "NFC" in (caught.value.hint or "")
