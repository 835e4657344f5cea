"""compare, check and import on the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.command import lossary

from lossary.files import read_json, write_json

PAGE = Path(__file__).parents[3] / "examples" / "two-tables" / "losses.md"


@pytest.fixture
def study(synthetic: Callable[..., Any], planted: Any) -> Any:
    made = synthetic({"tf_xxl": "tensorflow", "torch_xxl": "torch"})
    for run, views in (("tf_xxl", 1.3), ("torch_xxl", 4.0)):
        means = {"reform": planted(mlm=1.8), "views": planted(mlm=views), "dialogue": planted(mlm=1.5)}
        made.score(run, means)
    return made


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    out = tmp_path / "imported"
    found = lossary("import", str(PAGE), "--out", str(out))
    assert found.returncode == 0, found.stderr
    assert "tf_mlm_acc" in found.stdout
    return out


def test_compare_says_what_is_the_same_and_shows_paired_differences(study: Any) -> None:
    found = lossary("compare", "tf_xxl", "torch_xxl", str(study.folder.root))
    assert found.returncode == 0, found.stderr
    assert "validation set" in found.stdout
    assert "+2.7" in found.stdout
    assert "●" in found.stdout
    value = json.loads(lossary("compare", "tf_xxl", "torch_xxl", str(study.folder.root), "-f", "json").stdout)
    assert value["comparable"] is True
    views = next(d for d in value["table"]["deltas"] if d["dataset"] == "views" and d["metric"] == "mlm_loss")
    assert views["differs"] is True
    assert views["examples_paired"] <= views["examples_unpaired"]


def other_study(study: Any, planted: Any, tmp_path: Path, **changed: str) -> Path:
    """The same study with other scores of its second run, as from another folder."""
    import shutil

    root = tmp_path / "other"
    shutil.copytree(study.folder.root, root)
    manifest = read_json(root / "validation" / "manifest.json")
    write_json(root / "validation" / "manifest.json", manifest | changed)
    shutil.rmtree(root / "runs")
    moved = type(study).__new__(type(study))
    moved.study, moved.folder, moved.digest = study.study, type(study.folder)(root), changed["digest"]
    moved.wide, moved.tokenizer_digest = {}, changed["tokenizer_digest"]
    moved.score("torch_xxl", {name: planted() for name in ("reform", "views", "dialogue")})
    return root


def test_compare_refuses_what_would_mislead_and_force_labels_it(study: Any, planted: Any, tmp_path: Path) -> None:
    changed = {"digest": "blake2b:" + "f" * 32, "tokenizer_digest": "blake2b:" + "e" * 32}
    root = other_study(study, planted, tmp_path, **changed)
    arguments = ("compare", "tf_xxl", "torch_xxl", str(study.folder.root), "--other", str(root))
    refused = lossary(*arguments)
    assert refused.returncode == 0
    assert "Not comparable: another validation set" in refused.stdout
    assert "Not comparable: another tokenizer" in refused.stdout
    assert "Bits a byte" in refused.stdout
    assert "Δ" not in refused.stdout
    forced = lossary(*arguments, "--force")
    assert "Forced: these runs are not comparable" in forced.stdout
    assert "Δ" in forced.stdout


def test_check_finds_and_exits_1_and_never_when_asked(study: Any) -> None:
    root = str(study.folder.root)
    found = lossary("check", root)
    assert found.returncode == 1
    assert "gap-dataset-specific" in found.stdout
    assert lossary("check", root, "--fail-on", "never").returncode == 0
    assert lossary("check", root, "--fail-on", "error").returncode == 0
    reasons = [f"--ignore={name}=known" for name in ("gap-dataset-specific", "L104", "L202", "L106", "L102")]
    ignored = lossary("check", root, *reasons)
    assert ignored.returncode == 0, ignored.stdout
    assert "known" in ignored.stdout


@pytest.mark.parametrize("format", ["json", "sarif", "github", "concise"])
def test_every_format_of_check_is_well_formed(format: str, study: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert lossary("check", str(study.folder.root), "-f", format, "-o", str(out)).returncode == 1
    text = out.read_text(encoding="utf-8")
    if format in ("json", "sarif"):
        value = json.loads(text)
        results = value["findings"] if format == "json" else value["runs"][0]["results"]
        assert results
    elif format == "github":
        assert text.startswith("::warning title=")
    else:
        assert "warning [" in text


def test_a_reason_in_the_study_file_counts(study: Any) -> None:
    root = study.folder.root
    text = (root / "study.toml").read_text(encoding="utf-8")
    (root / "study.toml").write_text(text + '\n[check.ignore]\n"no-such-rule" = "typo"\n', encoding="utf-8")
    found = lossary("check", str(root))
    assert found.returncode == 2
    assert "no-such-rule" in found.stderr


def test_imported_tables_are_shown_checked_compared_exported_and_reported(imported: Path) -> None:
    shown = lossary("show", str(imported))
    assert shown.returncode == 0
    assert "1.762" in shown.stdout
    assert "51.52" in shown.stdout
    assert lossary("check", str(imported)).returncode == 1
    compared = lossary("compare", "xxl", "xl", str(imported))
    assert "unknown" in compared.stdout
    assert "+2.410" in compared.stdout
    exported = json.loads(lossary("export", str(imported), "-f", "json").stdout)
    assert {"name": "views", "link": "https://example.org/data/views"}.items() <= exported["datasets"][1].items()
    assert lossary("report", str(imported)).returncode == 0
    page = (imported / "report" / "report.md").read_text(encoding="utf-8")
    assert "[1.762](https://example.org/torch/1)" in page
    assert "## Findings" in page


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    found = lossary("import", str(PAGE), "--out", str(tmp_path / "x"), "--dry-run")
    assert found.returncode == 0
    assert "no table was written" in found.stdout
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("import", "missing.md"), 3, "no such file"),
        (("import", str(PAGE), "--map", "x"), 2, "--map"),
        (("check", "."), 2, "neither a study nor imported"),
        (("check", ".", "-f", "xml"), 2, "sarif"),
        (("check", ".", "--fail-on", "fatal"), 2, "--fail-on"),
        (("compare", "a", "b", "."), 2, "no such study file"),
        (("compare", "a", "b", ".", "-f", "xml"), 2, "text, json"),
    ],
)
def test_mistakes_are_one_message(arguments: tuple[str, ...], code: int, text: str, tmp_path: Path) -> None:
    found = lossary(*arguments, cwd=tmp_path)
    assert found.returncode == code
    assert text in found.stderr


def test_unknown_runs_are_named_with_the_known_ones(imported: Path, study: Any) -> None:
    for folder in (imported, study.folder.root):
        found = lossary("compare", "nope", "xl", str(folder))
        assert found.returncode == 2
        assert "nope" in found.stderr
        assert "Runs: " in found.stderr
    same = lossary("compare", "xl", "xl", str(imported))
    assert "with itself" in same.stderr
