"""A side in a process of its own: what it answers, what it raises, what is kept."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lossary.diagnosis import session as session_module
from lossary.diagnosis import traces
from lossary.diagnosis.adapter import FeedError, Setup, as_feed
from lossary.diagnosis.session import NotCompared, Session, SideFailed, SideSpec, own_code
from lossary.errors import DataError, UsageError, WorkerError
from lossary.models.shapes import AlbertShape
from lossary.study import Recipe

ADAPTER = """
import numpy as np

class Side:
    name = "made up"
    declared = {"dropout": 0.1}
    lacks = {"checkpoint"}
    def __init__(self, setup):
        self.setup = setup
        self.calls = 0
    def encode(self, texts):
        self.calls += 1
        return [[ord(c) for c in text] for text in texts]
    def learning_rates(self, start, stop):
        self.calls += 1
        return [float(self.calls)] * (stop - start)
    def forward(self, feed, *, training=False):
        print("a library prints")
        raise ZeroDivisionError("no such layer")
    def validation(self, documents):
        return {"token_ids": np.array([["text"]], dtype=object)}
    def checkpoint(self):
        return {}

def side(setup):
    return Side(setup)
"""


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    shape = AlbertShape(
        vocabulary_size=50, hidden_size=8, num_layers=1, num_heads=2, intermediate_size=16, embedding_size=8
    )
    return Setup(
        shape=shape, recipe=Recipe(seed=1), tokenizer=tmp_path / "none", datasets=("a",), shares={"a": 1.0}, seed=1
    )


def spec(folder: Path, text: str = ADAPTER) -> SideSpec:
    path = folder / "adapter.py"
    path.write_text(text)
    return SideSpec(label="made up", kind="adapter", path=path)


@pytest.fixture
def side(tmp_path: Path, setup: Setup) -> Iterator[Session]:
    with Session(spec(tmp_path), setup, tmp_path / "traces") as session:
        yield session


def test_a_side_tells_what_it_can(side: Session) -> None:
    assert side.description["name"] == "made up"
    assert side.description["declared"] == {"dropout": 0.1}
    assert side.can("encode", "forward")
    with pytest.raises(NotCompared, match="`gradients`, `checkpoint`"):
        side.need("encode", "gradients", "checkpoint")


def test_the_same_question_is_asked_once_and_its_answer_kept(side: Session, tmp_path: Path, setup: Setup) -> None:
    first = side.ask("learning_rates", start=0, stop=2)
    assert side.ask("learning_rates", start=0, stop=2) == first
    assert side.ask("learning_rates", start=0, stop=2, attempt=1) != first
    with Session(spec(tmp_path), setup, tmp_path / "traces") as again:
        assert again.ask("learning_rates", start=0, stop=2) == first
        assert again._channel is None  # Nothing was started.


def test_another_code_is_another_side(side: Session, tmp_path: Path, setup: Setup) -> None:
    first = side.ask("encode", texts=["ab"])
    changed = ADAPTER.replace("ord(c)", "ord(c) + 1")
    with Session(spec(tmp_path, changed), setup, tmp_path / "traces") as other:
        assert not np.array_equal(other.ask("encode", texts=["ab"])["ids"], first["ids"])


def test_an_answer_to_other_code_of_lossary_is_not_read(
    side: Session, tmp_path: Path, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = side.ask("learning_rates", start=0, stop=2)
    assert side.ask("learning_rates", start=0, stop=2) == first
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text("changed = True\n")
    monkeypatch.setattr(session_module, "PACKAGE", package)
    own_code.cache_clear()
    try:
        with Session(spec(tmp_path), setup, tmp_path / "traces") as other:
            other.ask("learning_rates", start=0, stop=2)
            assert other._channel is not None  # It was asked anew.
    finally:
        own_code.cache_clear()


def test_what_user_code_raises_is_an_answer(side: Session) -> None:
    weights = {"w": np.zeros(2, np.float32)}
    with pytest.raises(SideFailed, match=r"raised ZeroDivisionError: no such layer .adapter.py:19 in forward"):
        side.ask("forward", feed={}, weights=None, training=False, repeats=1)
    assert side.ask("learning_rates", start=0, stop=1)
    del weights


def test_what_is_no_data_is_said(side: Session) -> None:
    with pytest.raises(SideFailed, match="array of objects"):
        side.ask("validation", documents=[])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def other(): pass\n", "there is no function `side`"),
        ("raise RuntimeError('no GPU')\n", "cannot be loaded: RuntimeError: no GPU .adapter.py:1"),
        ("def side(setup):\n    return 1 / 0\n", "cannot be loaded: ZeroDivisionError"),
        ("def side(:\n", "cannot be loaded: SyntaxError"),
    ],
)
def test_an_adapter_that_cannot_be_loaded_is_an_error(tmp_path: Path, setup: Setup, text: str, message: str) -> None:
    with Session(spec(tmp_path, text), setup, tmp_path / "traces") as session, pytest.raises(UsageError, match=message):
        session.ask("describe")


def test_a_side_that_dies_is_an_error_with_its_last_words(tmp_path: Path, setup: Setup) -> None:
    text = ADAPTER.replace("self.calls += 1\n        return [[", "import os; os._exit(7)\n        return [[")
    with (
        Session(spec(tmp_path, text), setup, tmp_path / "traces") as session,
        pytest.raises(WorkerError, match="code 7"),
    ):
        session.ask("encode", texts=["a"])


def test_traces_keep_every_kind_of_value(tmp_path: Path) -> None:
    value = {
        "a": np.arange(6, dtype=np.int8).reshape(2, 3),
        "b": [1, 2.5, None, "x", float("nan")],
        "c": {"d": np.float32(3)},
    }
    path = traces.store(tmp_path, value)
    assert traces.store(tmp_path, value) == path
    found = traces.load(path)
    assert np.array_equal(found["a"], value["a"])
    assert found["a"].dtype == np.int8
    assert found["b"][:4] == [1, 2.5, None, "x"]
    assert np.isnan(found["b"][4])
    path.write_text("{")
    with pytest.raises(DataError, match="not a trace"):
        traces.load(path)


def test_feeds_of_both_forms_are_the_same() -> None:
    base = {
        "token_ids": np.array([[2, 4, 7, 3], [2, 8, 3, 0]]),
        "attention_mask": np.array([[1, 1, 1, 1], [1, 1, 1, 0]]),
        "segment_ids": np.zeros((2, 4), int),
        "sop_labels": np.array([1, -100]),
    }
    by_token = as_feed(base | {"mlm_labels": np.array([[-100, 9, -100, -100], [-100, 8, 3, -100]])}, where="x")
    by_place = as_feed(
        base
        | {
            "positions": np.array([[1, 0], [1, 2]]),
            "labels": np.array([[9, 0], [8, 3]]),
            "weights": np.array([[1, 0], [1, 1]]),
        },
        where="x",
    )
    for name, value in vars(by_token).items():
        assert np.array_equal(value, getattr(by_place, name)), name
    assert np.array_equal(by_place.arrays()["mlm_labels"], [[-100, 9, -100, -100], [-100, 8, 3, -100]])
    assert by_token.sop_labels.tolist() == [1, -1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_ids": None}, "token_ids is nothing"),
        ({"segment_ids": np.zeros(3)}, r"segment_ids is \(3,\)"),
        ({"mlm_labels": None}, "there are no masked positions"),
        ({"mlm_labels": None, "positions": np.zeros((2, 1))}, "positions come without labels and weights"),
    ],
)
def test_what_is_no_feed_is_said(change: dict[str, object], message: str) -> None:
    ids = np.array([[2, 4], [2, 3]])
    base = {"token_ids": ids, "attention_mask": ids, "segment_ids": ids, "mlm_labels": ids}
    with pytest.raises(FeedError, match=message):
        as_feed(base | change, where="x")
