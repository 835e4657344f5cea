"""What is said when a study is prepared, and what is said where it was not."""

from pathlib import Path

import pytest

from lossary import pipeline
from lossary.data.batches import training_shares
from lossary.errors import ShardError
from lossary.folder import StudyFolder
from lossary.launcher import NotesOnly
from lossary.study_file import load_study

STUDY = """name = "s"
[tokenizer]
vocabulary_size = 45
[datasets.long]
source = "long.txt"
[datasets.same]
source = "same.txt"
[validation]
examples = 12
shares = { long = 11, same = 1 }
max_fraction = 0.5
[recipe]
sequence_length = 32
[runs.a]
backend = "torch"
size = "base"
"""


def test_datasets_without_training_text_and_with_few_pairs_are_told(tmp_path: Path) -> None:
    words = ["the river", "a green hill", "some old houses", "many people", "the last train"]
    texts = [
        f"{words[i % 5]} met {words[i * 3 % 5]} {i}. {words[i * 2 % 5]} left {words[(i + 1) % 5]}." for i in range(80)
    ]
    (tmp_path / "long.txt").write_text("\n".join(texts) + "\n")
    # One text over and over: what becomes validation leaves nothing for training.
    (tmp_path / "same.txt").write_text("the river met some old houses\n" * 4)
    (tmp_path / "study.toml").write_text(STUDY)
    study, folder, said = load_study(tmp_path), StudyFolder(tmp_path), list[str]()
    with pytest.raises(ShardError, match="no training examples of length 32 are prepared") as caught:
        training_shares(study, folder, 32)
    assert caught.value.hint == "Run `lossary prepare` first."
    pipeline.prepare(study, folder, workers=1, listener=NotesOnly(said.append))
    (few,) = [note for note in said if "pairs of segments" in note]
    assert "same 0" in few
    assert "long" not in few
    assert "same: no text is left for training, and a trains on it" in said
    again: list[str] = []
    pipeline.prepare(study, folder, workers=1, listener=NotesOnly(again.append))
    assert not [note for note in again if "pairs of segments" in note]
