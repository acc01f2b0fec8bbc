"""Nearest neighbours, exact and approximate; and which rows are chosen to be labelled."""

from __future__ import annotations

import numpy as np
import pytest

from taxon.core.errors import ConfigError, DataError, MissingDependencyError
from taxon.core.predictions import FloatArray
from taxon.similarity import (
    METHODS,
    Nearest,
    build_index,
    index,
    margin_uncertainty,
    nearest,
    neighbours,
    select,
    tag_uncertainty,
    unit_rows,
)
from taxon.similarity.selection import _Gradients

SEQUENTIAL = ("weighted", "badge", "margin", "k-center", "random")


def features_of(rows: int, size: int = 24, *, clusters: int = 12, seed: int = 0) -> FloatArray:
    """Rows around some centres, of many lengths."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, size))
    values = centres[rng.integers(0, clusters, rows)] + 0.5 * rng.standard_normal((rows, size))
    return (values * rng.uniform(0.1, 10, (rows, 1))).astype(np.float32)


def by_hand(queries: FloatArray, features: FloatArray, count: int) -> np.ndarray:
    """The rows by their cosine, in double precision; of equal ones the first."""
    left, right = (
        each / np.linalg.norm(each, axis=1, keepdims=True)
        for each in (queries.astype(np.float64), features.astype(np.float64))
    )
    cosines = np.round(left @ right.T, 6)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :count]


@pytest.mark.parametrize("values", [1, 100, 4_000_000])
def test_exact_whatever_the_blocks_are(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_VALUES", values)
    features = features_of(230)
    features[100:160] = features[40]  # sixty equal rows, over several blocks
    queries = np.concatenate([features[[40, 7]], features_of(3, seed=1)])
    found = nearest(queries, features, 25)
    np.testing.assert_array_equal(found.rows, by_hand(queries, features, 25))
    assert found.rows[0].tolist() == [40, *range(100, 124)]
    np.testing.assert_allclose(found.similarities[0], 1, atol=1e-6)
    assert found.rows.dtype == np.int64 and found.similarities.dtype == np.float32


def test_parts_of_any_size_give_the_same() -> None:
    features, queries = features_of(90), features_of(4, seed=2)
    search = Nearest(queries, 10)
    for part in np.split(features, [0, 3, 4, 50]):
        search.add(part)
    whole = nearest(queries, features, 10)
    np.testing.assert_array_equal(search.result().rows, whole.rows)
    np.testing.assert_array_equal(search.result().similarities, whole.similarities)


def test_fewer_rows_than_wanted_and_rows_without_a_direction() -> None:
    features = np.array([[0, 0], [3, 0], [0, 2], [-1, 0]], np.float32)
    found = nearest(np.array([[5, 0]], np.float32), features, 9)
    assert found.rows.tolist() == [[1, 0, 2, 3]]
    assert found.similarities.tolist() == [[1, 0, 0, -1]]
    assert nearest(features[:1], features[:0], 3).rows.shape == (1, 0)


def test_what_cannot_be_compared_is_refused() -> None:
    features = features_of(5)
    with pytest.raises(DataError, match=r"shape \(5, 23\) .* rows of 24 values"):
        nearest(features, features[:, 1:], 1)
    with pytest.raises(ConfigError, match="1 or more, not 0"):
        nearest(features, features, 0)
    features[3, 2] = np.nan
    with pytest.raises(DataError, match="row 3 are no finite numbers"):
        nearest(features[:1], features, 1)


def test_inverted_lists_find_nearly_all() -> None:
    pytest.importorskip("faiss")
    features, queries = features_of(6000, clusters=60), features_of(100, clusters=60, seed=3)
    features[5000:5030] = features[17]
    approximate = build_index(features, queries=100, kind="ivf")
    assert approximate.kind == "ivf"
    found, exact = approximate.search(queries, 10), nearest(queries, features, 10)
    shared = [len(set(ours) & set(true)) for ours, true in zip(found.rows, exact.rows, strict=True)]
    assert np.mean(shared) / 10 >= 0.95
    assert (np.diff(found.similarities, axis=1) <= 1e-6).all()
    same = approximate.search(features[17:18], 20)
    assert same.rows[0].tolist() == [17, *range(5000, 5019)]
    # More than the lists hold: all rows answer.
    assert len(set(approximate.search(queries[:1], 6000).rows[0].tolist())) == 6000


def test_the_index_is_exact_unless_lists_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    features, queries = features_of(300), features_of(5, seed=4)
    built = build_index(features, queries=1_000_000)
    assert built.kind == "exact"
    expected = nearest(queries, features, 7)
    np.testing.assert_array_equal(built.search(queries, 7).rows, expected.rows)
    monkeypatch.setattr(index, "installed_version", lambda package: None)
    monkeypatch.setattr(index, "PAYS_FROM_ROWS", 100)
    assert build_index(features, queries=1_000_000).kind == "exact"
    with pytest.raises(MissingDependencyError, match=r"pip install 'taxon-vision\[search\]'"):
        build_index(features, queries=1, kind="ivf")
    with pytest.raises(ConfigError, match="unknown kind"):
        build_index(features, queries=1, kind="hnsw")  # type: ignore[arg-type]


def test_lists_are_taken_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(index, "PAYS_FROM_ROWS", 100)
    features = features_of(300)
    assert build_index(features, queries=index.PAYS_FROM_QUERIES).kind == "ivf"
    assert build_index(features, queries=index.PAYS_FROM_QUERIES - 1).kind == "exact"


def test_uncertainty_of_classes_and_tags() -> None:
    classes = np.array([[0.5, 0.5, 0], [1, 0, 0], [0.1, 0.7, 0.2]], np.float32)
    np.testing.assert_allclose(margin_uncertainty(classes), [1, 0, 0.5], atol=1e-6)
    assert margin_uncertainty(np.ones((2, 1), np.float32)).tolist() == [0, 0]
    tags = np.array([[0.5, 0.5], [0, 1], [0.5, 1], [0.11, 0.89]], np.float32)
    np.testing.assert_allclose(tag_uncertainty(tags), [1, 0, 0.5, 0.5], atol=1e-3)


def probabilities_of(rows: int, classes: int = 4, seed: int = 0) -> FloatArray:
    """Rows that sum to 1, some nearly certain."""
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), rows).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [1, 17, 80, 500])
def test_every_method_chooses_different_rows_and_the_same_ones_again(
    method: str, count: int
) -> None:
    features, own = features_of(80), probabilities_of(80)
    unsure = margin_uncertainty(own)
    chosen = select(features, own, unsure, count, method=method, seed=3)  # type: ignore[arg-type]
    assert len(set(chosen.tolist())) == len(chosen) == min(count, 80)
    assert chosen.min() >= 0 and chosen.max() < 80 and chosen.dtype == np.int64
    again = select(features, own, unsure, count, method=method, seed=3)  # type: ignore[arg-type]
    np.testing.assert_array_equal(chosen, again)
    if method in SEQUENTIAL:  # more of it begins with the same
        more = select(features, own, unsure, count + 9, method=method, seed=3)  # type: ignore[arg-type]
        np.testing.assert_array_equal(more[: len(chosen)], chosen)


@pytest.mark.parametrize("method", ["clusters", "weighted"])
def test_what_is_unsure_and_differs_is_taken(method: str) -> None:
    rng = np.random.default_rng(0)
    alike = np.repeat(rng.standard_normal((1, 16)), 60, axis=0)  # copies of the most uncertain
    others = 3 * rng.standard_normal((30, 16))
    sure = 3 * rng.standard_normal((60, 16))
    features = np.concatenate([alike, others, sure]).astype(np.float32)
    unsure = np.repeat([1.0, 0.8, 0.0], [60, 30, 60]).astype(np.float32)
    own = probabilities_of(150)
    chosen = select(features, own, unsure, 20, method=method)  # type: ignore[arg-type]
    assert (chosen < 60).sum() == 1 and (chosen < 90).all()
    assert (select(features, own, unsure, 20, method="margin") < 60).all()


def test_gradients_are_those_of_the_last_layer() -> None:
    for own in (probabilities_of(6), np.random.default_rng(1).random((6, 3)).astype(np.float32)):
        unit = unit_rows(features_of(6, 5))
        answers = np.eye(own.shape[1])[own.argmax(axis=1)] if own.shape[1] == 4 else own >= 0.5
        outer = ((own - answers)[:, :, None] * unit[:, None, :]).reshape(6, -1)
        expected = ((outer - outer[2]) ** 2).sum(axis=1)
        np.testing.assert_allclose(_Gradients(unit, own).to(2), expected, atol=1e-6)


def test_choices_are_checked() -> None:
    features, own = features_of(5), probabilities_of(5)
    with pytest.raises(ConfigError, match="unknown method 'best'; allowed: clusters, weighted"):
        select(features, own, own[:, 0], 2, method="best")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="1 or more, not 0"):
        select(features, own, own[:, 0], 0, method="margin")
