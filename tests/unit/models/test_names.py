"""Names of parameters: proposed from shapes and words, checked by values."""

import numpy as np
import pytest

from lossary.errors import UsageError
from lossary.models.names import check_values, propose_names, to_canonical, to_theirs
from lossary.models.parameters import LAYER, initial_parameters, parameter_table
from lossary.models.shapes import AlbertShape

SHAPE = AlbertShape(
    vocabulary_size=60, hidden_size=12, num_layers=2, num_heads=3, intermediate_size=48, embedding_size=8
)
TABLE = parameter_table(SHAPE)
OWN = {
    "albert.embeddings.word_embeddings.weight": "tok.weight",
    "albert.embeddings.position_embeddings.weight": "pos.weight",
    "albert.embeddings.token_type_embeddings.weight": "seg.weight",
    "albert.embeddings.LayerNorm.weight": "embeddings_ln.gamma",
    "albert.embeddings.LayerNorm.bias": "embeddings_ln.beta",
    f"{LAYER}.attention.query.weight": "block.attention.q.kernel",
    f"{LAYER}.attention.key.weight": "block.attention.k.kernel",
    f"{LAYER}.attention.value.weight": "block.attention.v.kernel",
    "albert.pooler.weight": "pool.kernel",
}


def test_own_names_are_proposed_as_they_stand() -> None:
    names = propose_names(TABLE, TABLE)
    assert {name: match.theirs for name, match in names.pairs.items()} == {name: name for name in TABLE}
    assert not names.missing
    assert not names.left


def test_words_tell_apart_what_shapes_do_not() -> None:
    theirs = {OWN.get(name, name): size for name, size in TABLE.items()}
    names = propose_names(theirs, TABLE)
    assert {name: match.theirs for name, match in names.pairs.items()} == {name: OWN.get(name, name) for name in TABLE}


def test_kernels_split_by_head_and_transposed_go_there_and_back() -> None:
    theirs = dict(TABLE)
    theirs[f"{LAYER}.ffn.weight"] = (12, 48)
    theirs["predictions.dense.weight"] = (12, 8)
    theirs["albert.encoder.embedding_hidden_mapping_in.weight"] = (8, 12)
    names = propose_names(theirs, TABLE)
    assert names.pairs[f"{LAYER}.ffn.weight"].transposed
    canonical = initial_parameters(SHAPE, 3)
    own = to_theirs(canonical, names.pairs, theirs)
    assert own[f"{LAYER}.ffn.weight"].shape == (12, 48)
    back = to_canonical(own, names.pairs, TABLE)
    assert all(np.array_equal(back[name], value) for name, value in canonical.items())


def test_values_correct_a_guess_that_names_and_shapes_got_wrong() -> None:
    canonical = {name: value + np.float32(0.01) for name, value in initial_parameters(SHAPE, 4).items()}
    rng = np.random.default_rng(0)
    canonical = {name: rng.standard_normal(value.shape).astype(np.float32) for name, value in canonical.items()}
    order = list(TABLE)
    theirs = {
        f"variable_{number}": canonical[name].T.copy() if canonical[name].ndim == 2 else canonical[name]
        for number, name in enumerate(order)
    }
    proposed = propose_names({name: value.shape for name, value in theirs.items()}, TABLE)
    checked = check_values(theirs, canonical, proposed)
    assert not checked.unclear
    assert all(checked.pairs[name].theirs == f"variable_{number}" for number, name in enumerate(order))
    back = to_canonical(theirs, checked.pairs, TABLE)
    assert all(np.array_equal(back[name], canonical[name]) for name in TABLE)


@pytest.mark.parametrize("gone", ["albert.pooler.weight", "predictions.bias"])
def test_what_has_no_match_is_said(gone: str) -> None:
    theirs = {name: size for name, size in TABLE.items() if name != gone} | {"extra": (3, 3, 3)}
    names = propose_names(theirs, TABLE)
    assert gone in names.missing or gone == "albert.pooler.weight"
    assert "extra" in names.left


def test_a_name_that_would_do_for_another_parameter_is_unclear() -> None:
    """Dense layers that are numbered: "dense" may be the pooler, or the mapping, or any other."""
    numbered = [f"{LAYER}.attention.{part}.weight" for part in ("query", "key", "value", "dense")]
    numbered.append("albert.pooler.weight")
    theirs = {name: size for name, size in TABLE.items() if name not in numbered}
    theirs |= {f"dense_{number}.kernel": TABLE[name] for number, name in enumerate(numbered)}
    names = propose_names(theirs, TABLE)
    assert set(names.unclear) == set(numbered)
    with pytest.raises(UsageError, match="names and shapes do not tell") as error:
        names.require()
    assert "dense_" in str(error.value.hint)


def test_what_is_certain_is_required_without_a_word() -> None:
    assert propose_names(TABLE, TABLE).require() == propose_names(TABLE, TABLE).pairs
    few = {name: size for name, size in TABLE.items() if name != "predictions.bias"}
    with pytest.raises(UsageError, match=r"could be predictions\.bias"):
        propose_names(few, TABLE).require()
