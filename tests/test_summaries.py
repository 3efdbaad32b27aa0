"""Extractive summaries: TextRank against networkx, and what must hold of any."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kie_course import summaries

TEXT = (
    "One bell rang. Two bells rang again! Did a cat hear the two bells? Nobody knows."
)

similarities = (
    st.integers(1, 7)
    .flatmap(
        lambda n: arrays(float, (n, n), elements=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    )
    .map(lambda matrix: matrix + matrix.T)
)


@given(similarities)
@settings(max_examples=60)
def test_text_rank_is_the_page_rank_of_networkx(similarity):
    graph = nx.from_numpy_array(similarity * (1 - np.eye(len(similarity))))
    expected = nx.pagerank(graph, alpha=0.85, tol=1e-12, max_iter=1000)
    found = summaries.text_rank(similarity)
    np.testing.assert_allclose(found, list(expected.values()), atol=1e-6)
    assert found.sum() == pytest.approx(1)


@given(similarities, st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_text_rank_follows_its_sentences_when_they_are_shuffled(similarity, dice):
    order = dice.sample(range(len(similarity)), len(similarity))
    shuffled = summaries.text_rank(similarity[np.ix_(order, order)])
    np.testing.assert_allclose(shuffled, summaries.text_rank(similarity)[order])


def test_word_overlap_of_a_hand_made_case():
    found = summaries.word_overlap(["Two bells rang", "the bells rang twice", "No cat"])
    # "the" counts as no word; one more than the words, so that one word has a length
    assert found[0, 1] == pytest.approx(2 / (np.log(4) + np.log(4)))
    assert found[0, 2] == found[2, 0] == 0


def test_sentences_without_a_word_resemble_nothing():
    for texts in (["!", "?"], ["!", "one word"], ["one", "one"]):
        assert np.isfinite(summaries.word_overlap(texts)).all()
    assert summaries.word_overlap(["!", "?"]).sum() == 0


def test_centroid_prefers_what_lies_in_the_middle():
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1]])
    assert summaries.centroid(vectors).argmax() == 1


def test_lead_is_the_first_sentences():
    chosen = summaries.summarise(TEXT, summaries.lead, words=7)
    assert [TEXT[a:b] for a, b in chosen] == ["One bell rang.", "Two bells rang again!"]


def test_best_sentences_that_fit_stand_in_the_order_of_the_text():
    def kept(words: int) -> list[str]:
        chosen = summaries.summarise(TEXT, lambda texts: np.array([0, 1, 3, 2]), words)
        return [TEXT[a:b].split()[0] for a, b in chosen]

    assert kept(9) == ["Did", "Nobody"]
    assert kept(12) == ["One", "Did", "Nobody"]  # the second has four words, not three
    assert kept(13) == ["Two", "Did", "Nobody"]
    assert kept(0) == ["Did"]


def test_short_text_is_its_own_summary_and_nothing_has_none():
    assert summaries.summarise("One. Two.", summaries.lead) == [(0, 4), (5, 9)]
    assert summaries.summarise(" \n ", summaries.lead) == []
