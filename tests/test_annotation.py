"""Marked text becomes offsets, and agreement is that of whole mentions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kie_course import BadInput, data
from kie_course.annotation import agreement, from_markup, read_annotation

DOCUMENTS = {document.id: document for document in data.load_documents()}
ROUNDS = sorted((data.home() / "data" / "agreement").glob("*-first.txt"))


def test_marks_become_offsets():
    text, mentions = from_markup("The [[ORG|Meridian Trust]] of [[LOC|Por\nto]].")
    assert text == "The Meridian Trust of Por\nto."
    assert [(text[a:b], kind) for a, b, kind in mentions] == [
        ("Meridian Trust", "ORG"),
        ("Por\nto", "LOC"),
    ]


pieces = st.lists(
    st.tuples(
        st.sampled_from(["", "ORG", "PER"]),
        st.text("ab |\n()é", min_size=1, max_size=5),
    ),
    max_size=6,
)


@given(pieces)
def test_taking_marks_out_loses_no_character(parts):
    marked = "".join(f"[[{k}|{t}]]" if k else t for k, t in parts)
    text, mentions = from_markup(marked)
    assert text == "".join(t for _, t in parts)
    assert [(k, text[a:b]) for a, b, k in mentions] == [(k, t) for k, t in parts if k]


@pytest.mark.parametrize("marked", ["[[ORG|half", "half]] a", "[[|x]]", "[[ORG|]] x"])
def test_broken_marks_are_an_error(marked):
    with pytest.raises(BadInput, match="marks no mention near"):
        from_markup(marked)


def write(path, **documents):
    lines = (f"=== {name}\n{text}\n" for name, text in documents.items())
    path.write_text("\n".join(lines), "utf-8")
    return path


def test_agreement_of_a_hand_made_case(tmp_path):
    first = write(tmp_path / "1", a="[[PER|Anna]] of [[LOC|Rome]]", b="[[ORG|Tarn]]")
    second = write(tmp_path / "2", a="[[PER|Anna]] of Rome", b="[[LOC|Tarn]]")
    # Three mentions and two; one of each is the same.
    found = agreement(first, second)
    assert found == {"all": 0.4, "LOC": 0.0, "ORG": 0.0, "PER": 1.0}
    assert agreement(second, first) == found
    assert agreement(first, first)["all"] == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[PER|Anna]]", "1: every document begins with"),
        ("=== a\nx\n=== a\ny", "document 'a' occurs twice"),
        ("=== a\n[[PER|x", "a: .* marks no mention"),
    ],
)
def test_bad_annotation_is_named(tmp_path, text, message):
    path = tmp_path / "notes.txt"
    path.write_text(text, "utf-8")
    with pytest.raises(BadInput, match=rf"notes\.txt.*{message}"):
        read_annotation(path)


def test_other_texts_cannot_be_compared(tmp_path):
    first = write(tmp_path / "1", a="[[PER|Anna]]")
    with pytest.raises(BadInput, match="other documents or texts"):
        agreement(first, write(tmp_path / "2", a="[[PER|Ann]]a b"))


@pytest.mark.parametrize("path", ROUNDS, ids=lambda path: path.stem)
def test_agreement_is_about_the_corpus_as_it_is(path):
    for name, (text, _) in read_annotation(path).items():
        assert text == DOCUMENTS[name].text
