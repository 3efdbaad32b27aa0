"""Named entities: alignment, windows, scores, and a small tagger trained for real."""

import collections
import contextlib
import itertools
import json
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

from kie_course import BadInput, data, model_card, models, ner, training
from kie_course.data import Sentence
from kie_course.ner import IGNORE

CPU = training.Settings(bf16=False, device="cpu", batch_size=8, seed=7)

HARD_WORDS = ["Zoë’s", "naïve", "3.14", "COVID-19", "https://a.b/c", "東京", "ﬁne", "!"]
PIECELESS = ["\ufe0f", "\ufffd", "\u200d", "\u0301"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer():
    return models.load_tokenizer()


def small_corpus() -> list[Sentence]:
    """Forty sentences: people and places, told apart by what stands around them."""
    people = ["Ada Lovelace", "Grace Hopper", "Alan", "Marie Curie", "Noether"]
    places = ["Paris", "New York", "Göttingen", "Lisbon"]
    frames = ["{p} moved to {l} .", "In {l} , we met {p} again ."]
    found = []
    for person in people:
        for place in places:
            for frame in frames:
                words, labels = [], []
                for part in frame.split():
                    kind = {"{p}": "PER", "{l}": "LOC"}.get(part)
                    filled = part.format(p=person, l=place).split()
                    words += filled
                    inside = [f"I-{kind}"] * (len(filled) - 1)
                    labels += [f"B-{kind}", *inside] if kind else ["O"]
                found.append(Sentence(words, labels))
    return found


@pytest.fixture(scope="module")
def tagger() -> ner.Tagger:
    """The real encoder, fine-tuned for a few seconds."""
    corpus = small_corpus()
    run = replace(CPU, epochs=3, frozen_layers=3)
    return ner.train(corpus, corpus, settings=run, progress=False)


# ----------------------------------------------------------------------- alignment

plain_word = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789äéß-.'", min_size=1)
plain_words = st.lists(
    plain_word | st.sampled_from(HARD_WORDS), min_size=1, max_size=30
)


@given(plain_words)
@settings(max_examples=50)
def test_label_lies_on_the_first_piece_of_its_word(tokenizer, words):
    encoded = tokenizer(words, is_split_into_words=True)
    labels = list(range(100, 100 + len(words)))
    aligned = ner.align_labels(encoded.word_ids(), labels)
    assert len(aligned) == len(encoded["input_ids"])
    assert [label for label in aligned if label != IGNORE] == labels
    for piece, label in enumerate(aligned):
        if label != IGNORE:
            word = encoded.word_ids()[piece]
            assert label == labels[word]
            assert piece == encoded.word_to_tokens(word).start


def test_alignment_of_a_hand_made_case():
    word_ids = [None, 0, 1, 1, 1, 2, None, None]
    assert ner.align_labels(word_ids, [7, 8, 9]) == [
        IGNORE, 7, 8, IGNORE, IGNORE, 9, IGNORE, IGNORE,
    ]  # fmt: skip


@given(plain_words)
@settings(max_examples=50)
def test_pieces_are_those_of_the_tokenizer(tokenizer, words):
    (window,) = ner.encode([words], tokenizer, 512, [[1] * len(words)])
    expected = tokenizer(words, is_split_into_words=True)
    assert window.input_ids == expected["input_ids"]
    assert window.word_ids == expected.word_ids()
    assert window.labels == ner.align_labels(expected.word_ids(), [1] * len(words))


@pytest.mark.parametrize("word", PIECELESS)
def test_word_without_a_piece_is_fed_as_unknown_and_keeps_its_label(tokenizer, word):
    assert tokenizer(word, add_special_tokens=False)["input_ids"] == []
    (window,) = ner.encode([["Sun", word, "rises"]], tokenizer, 512, [[3, 4, 5]])
    assert window.input_ids[2] == tokenizer.unk_token_id
    assert window.labels == [IGNORE, 3, 4, 5, IGNORE]


def test_padding_has_neither_attention_nor_label(tokenizer):
    rows = [["a"], ["a", "b", "unaffableness"]]
    windows = ner.encode(rows, tokenizer, 512, [[1], [1, 2, 3]])
    batch = ner.collate(windows, tokenizer.pad_token_id)
    assert batch["input_ids"].shape == batch["labels"].shape
    assert batch["attention_mask"].sum(1).tolist() == [len(w) for w in windows]
    padding = batch["attention_mask"] == 0
    assert (batch["input_ids"][padding] == tokenizer.pad_token_id).all()
    assert (batch["labels"][padding] == IGNORE).all()
    assert (batch["labels"] != IGNORE).sum(1).tolist() == [1, 3]


def test_loss_is_the_mean_over_labelled_pieces_alone(tokenizer):
    windows = ner.encode([["a"], ["b", "unaffableness"]], tokenizer, 512, [[1], [2, 0]])
    batch = ner.collate(windows, 0)
    logits = torch.randn(*batch["labels"].shape, 3, generator=torch.manual_seed(0))

    class Model:
        def __call__(self, ids, mask):
            return type("Output", (), {"logits": logits})

    rows = [
        -logits[i, j].log_softmax(-1)[label]
        for i, row in enumerate(batch["labels"].tolist())
        for j, label in enumerate(row)
        if label != IGNORE
    ]
    assert len(rows) == 3
    torch.testing.assert_close(ner.token_loss(Model(), batch), torch.stack(rows).mean())


# ------------------------------------------------------------------------- windows


@st.composite
def sizes_and_limit(draw):
    limit = draw(st.integers(1, 40))
    size = st.integers(1, limit) | st.just(limit) | st.just(1)
    return draw(st.lists(size, min_size=1, max_size=60)), limit


@given(sizes_and_limit(), st.integers(0, 50))
@settings(max_examples=200)
def test_every_word_is_owned_by_one_window_that_holds_it(case, overlap):
    sizes, limit = case
    windows = ner.cut_windows(sizes, limit, overlap)
    owned = [word for *_, first, last in windows for word in range(first, last)]
    assert owned == list(range(len(sizes)))
    for start, end, first, last in windows:
        assert start <= first < last <= end  # no window is read for nothing
        assert sum(sizes[start:end]) <= limit


@given(st.integers(65, 2_000), st.integers(60, 510))
@settings(max_examples=60)
def test_words_at_a_cut_have_context_on_both_sides(count, limit):
    """Where words are one piece each, a quarter of the overlap at the least."""
    overlap = min(ner.OVERLAP, limit // 2)
    for start, end, first, last in ner.cut_windows([1] * count, limit):
        assert start == 0 or first - start >= overlap // 2
        assert end == count or end - last >= overlap // 2


def test_what_fits_is_one_window():
    assert ner.cut_windows([3, 3, 4], 10) == [(0, 3, 0, 3)]
    assert len(ner.cut_windows([3, 3, 5], 10)) == 2


many_sizes = st.lists(st.integers(1, 3) | st.integers(1, 120), max_size=40)


@given(many_sizes, st.integers(5, 40))
@settings(max_examples=40)
def test_windows_of_long_sentences_label_every_word_once(tokenizer, sizes, limit):
    """Words of one piece and of many, some with more than a window holds."""
    sentences = [["q" * size for size in row] for row in (sizes[:4], [], sizes)]
    labels = [[100 * i + j for j in range(len(s))] for i, s in enumerate(sentences)]
    windows = ner.encode(sentences, tokenizer, limit, labels)
    assert all(len(window) <= limit for window in windows)
    assert all(w.input_ids[0] == tokenizer.cls_token_id for w in windows)
    assert all(w.input_ids[-1] == tokenizer.sep_token_id for w in windows)
    carried = [label for w in windows for label in w.labels if label != IGNORE]
    assert carried == [label for row in labels for label in row]
    # A window without a single label would have no loss.
    assert all(any(label != IGNORE for label in window.labels) for window in windows)


def read_window_by_window(tagger: ner.Tagger, words: list[str]) -> torch.Tensor:
    """What each window gives if it is read alone, for the words that it labels."""
    pieces = tagger.tokenizer(words, add_special_tokens=False)["input_ids"]
    sizes = [max(1, len(ids)) for ids in pieces]
    windows = ner.cut_windows(sizes, models.max_length(tagger.model) - 2)
    assert len(windows) > 1
    rows = [
        tagger.probabilities([words[start:end]])[0][first - start : last - start]
        for start, end, first, last in windows
    ]
    return torch.cat(rows)


def assert_every_word_is_labelled_once(tagger: ner.Tagger, words: list[str]) -> None:
    (shares,) = tagger.probabilities([words])
    assert shares.shape == (len(words), len(tagger.labels))
    torch.testing.assert_close(shares.sum(-1), torch.ones(len(words)))
    torch.testing.assert_close(shares, read_window_by_window(tagger, words))
    (labels,) = tagger.tag([words])
    assert labels == ner.best_labels(shares, tagger.labels)
    owners = collections.Counter(
        word
        for window in ner.encode([words], tagger.tokenizer, 512)
        for word in ner.first_pieces(window.word_ids)
    )
    assert owners == dict.fromkeys(range(len(words)), 1)


@pytest.fixture(scope="module")
def tiny_tagger(tiny_folder) -> ner.Tagger:
    """Random weights: no two words get the same probabilities."""
    names = ["O", "B-PER", "I-PER"]
    torch.manual_seed(1)
    model = models.load(
        "AutoModelForTokenClassification", tiny_folder, id2label=dict(enumerate(names))
    )
    return ner.Tagger(model, models.load_tokenizer(tiny_folder), bf16=False)


@pytest.mark.parametrize("fixture", ["tiny_tagger", "tagger"])
def test_641_words_get_641_labels(fixture, request):
    words = [w for sentence in small_corpus() for w in sentence.words] * 3
    model = request.getfixturevalue(fixture)
    assert_every_word_is_labelled_once(model, words[:641])


def test_the_long_sentence_of_the_sec_filings_is_labelled_whole(kie_data, tiny_tagger):
    sentences = data.read_conll(kie_data / "ner" / "sec-filings" / "FIN3.txt")
    words = max((s.words for s in sentences), key=len)
    assert len(words) == 641
    assert_every_word_is_labelled_once(tiny_tagger, words)


# ------------------------------------------------------------------------- tagging


def test_probabilities_are_the_softmax_at_the_first_piece_of_each_word(tiny_tagger):
    words = ["Zoë’s", "unaffableness", "in", "Göttingen"]
    encoded = tiny_tagger.tokenizer(
        words, is_split_into_words=True, return_tensors="pt"
    )
    with torch.inference_mode():
        logits = tiny_tagger.model.eval()(**encoded).logits[0]  # (piece, label)
    first = [encoded.word_to_tokens(i).start for i in range(len(words))]
    assert len(logits) > len(words) + 2
    (shares,) = tiny_tagger.probabilities([words])
    torch.testing.assert_close(shares, logits.softmax(-1)[first])


def test_labels_do_not_depend_on_batch_size_or_order(tagger):
    sentences = [s.words for s in small_corpus()[::5]] + [["Hi"], [], ["Ada"] * 700]
    expected = tagger.tag(sentences)
    assert [len(row) for row in expected] == [len(words) for words in sentences]
    for batch_size in (1, 7):
        assert tagger.tag(sentences, batch_size=batch_size) == expected
    shuffled = random.Random(1).sample(range(len(sentences)), len(sentences))
    again = tagger.tag([sentences[i] for i in shuffled])
    assert again == [expected[i] for i in shuffled]


def test_labels_do_not_depend_on_what_the_model_was_doing_before(tagger):
    sentences = [s.words for s in small_corpus()[:5]]
    expected = tagger.tag(sentences)
    tagger.model.train()
    assert tagger.tag(sentences) == expected


def test_nothing_to_tag_is_nothing(tagger):
    assert tagger.tag([]) == []
    assert tagger.tag([[], []]) == [[], []]


def test_tagger_learned_what_it_was_shown(tagger):
    result = ner.evaluate(tagger, small_corpus())
    assert result["f1"] > 0.9
    assert set(result["per_type"]) == {"PER", "LOC"}
    assert tagger.labels == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


# ------------------------------------------------------------------------- decoding


def allowed(row: tuple[str, ...]) -> bool:
    """Whether every `I-` stands in a mention: an independent reading of IOB2."""
    covered = {(a, i) for a, b, _ in data.spans(row) for i in range(a, b)}
    inside = {i for _, i in covered}
    return all(name == "O" or i in inside for i, name in enumerate(row))


@given(st.integers(1, 4), st.integers(0, 999), st.floats(0.1, 8))
@settings(max_examples=60)
def test_best_labels_are_the_likeliest_allowed_labelling(n, seed, sharpness):
    names = ["O", "B-ORG", "I-ORG", "B-PER", "I-PER"]
    logits = torch.randn(n, len(names), generator=torch.manual_seed(seed))
    shares = (sharpness * logits).softmax(-1)
    rows = itertools.product(range(len(names)), repeat=n)
    good = [row for row in rows if allowed(tuple(names[i] for i in row))]
    best = max(good, key=lambda row: shares[range(n), row].log().sum().item())
    assert ner.best_labels(shares, names) == [names[i] for i in best]


def test_tagger_breaks_no_rule_of_iob2(tiny_tagger):
    sentences = [s.words for s in small_corpus()]
    alone = [
        [tiny_tagger.labels[i] for i in rows.argmax(-1)]
        for rows in tiny_tagger.probabilities(sentences)
    ]
    assert not all(allowed(tuple(row)) for row in alone)  # random weights know no rule
    assert all(allowed(tuple(row)) for row in tiny_tagger.tag(sentences))


def test_best_labels_of_certain_and_of_empty_sentences():
    names = ["O", "B-X", "I-X"]
    certain = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0, 0, 1.0]])
    assert ner.best_labels(certain, names) in (
        ["O", "B-X", "I-X"],
        ["B-X", "I-X", "I-X"],
    )
    assert ner.best_labels(torch.zeros(0, 3), names) == []


# --------------------------------------------------------------------------- scores

label = st.sampled_from(["O", "B-PER", "I-PER", "B-ORG", "I-ORG"])
pair_of_rows = st.integers(0, 8).flatmap(
    lambda n: st.tuples(*[st.lists(label, min_size=n, max_size=n)] * 2)
)
pairs_of_rows = st.lists(pair_of_rows, min_size=1, max_size=6)


def mentions(rows: list[list[str]]) -> set[tuple[int, int, int, str]]:
    """An independent reading of IOB2: a B- and the I- of its type right after it."""
    found = set()
    for number, row in enumerate(rows):
        for start, name in enumerate(row):
            if name.startswith("B-"):
                end = start + 1
                while end < len(row) and row[end] == "I-" + name[2:]:
                    end += 1
                found.add((number, start, end, name[2:]))
    return found


def ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


@given(pairs_of_rows)
@settings(max_examples=150)
@pytest.mark.filterwarnings("error")  # a lesson shows no warning
def test_score_is_that_of_sets_of_spans(pairs):
    gold, predicted = ([list(row) for row in rows] for rows in zip(*pairs, strict=True))
    result = ner.score(gold, predicted)
    true, found = mentions(gold), mentions(predicted)

    def expected(kind: str | None) -> dict:
        own = [{m for m in side if kind in (None, m[3])} for side in (true, found)]
        hits = len(own[0] & own[1])
        return {
            "precision": ratio(hits, len(own[1])),
            "recall": ratio(hits, len(own[0])),
            "f1": ratio(2 * hits, len(own[0]) + len(own[1])),
        }

    for name, value in expected(None).items():
        assert result[name] == pytest.approx(value), name
    assert set(result["per_type"]) == {m[3] for m in true | found}
    for kind, row in result["per_type"].items():
        support = sum(m[3] == kind for m in true)
        assert row == pytest.approx(expected(kind) | {"support": support})


@given(pairs_of_rows)
@settings(max_examples=80)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_score_is_seqevals_strict_one(pairs):
    gold, predicted = ([list(row) for row in rows] for rows in zip(*pairs, strict=True))
    result = ner.score(gold, predicted)
    strict = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    if mentions(gold) | mentions(predicted):
        for name, function in [
            ("precision", precision_score),
            ("recall", recall_score),
            ("f1", f1_score),
        ]:
            assert result[name] == pytest.approx(function(gold, predicted, **strict))


@given(st.lists(st.lists(label, max_size=8), min_size=1, max_size=4))
@settings(max_examples=60)
@pytest.mark.filterwarnings("error")
def test_labels_that_continue_nothing_are_counted(predicted):
    gold = [["O"] * len(row) for row in predicted]
    covered = {(n, i) for n, a, b, _ in mentions(predicted) for i in range(a, b)}
    orphans = [
        (n, i)
        for n, row in enumerate(predicted)
        for i, name in enumerate(row)
        if name != "O" and (n, i) not in covered
    ]
    assert ner.score(gold, predicted)["invalid_labels"] == len(orphans)
    # Counted in what was predicted, never in what was given.
    assert ner.score(predicted, gold)["invalid_labels"] == 0


def test_orphan_gets_no_credit_and_is_not_repaired():
    result = ner.score([["B-PER", "I-PER"]], [["I-PER", "I-PER"]])
    assert (result["f1"], result["invalid_labels"]) == (0, 2)


def test_all_outside_scores_nothing_and_does_not_fail():
    for gold in ([["O", "O"]], [[]], []):
        result = ner.score(gold, gold)
        assert (result["precision"], result["recall"], result["f1"]) == (0, 0, 0)
        assert (result["per_type"], result["invalid_labels"]) == ({}, 0)
    missed = ner.score([["B-PER"]], [["O"]])
    assert missed["per_type"]["PER"]["support"] == 1
    assert missed["f1"] == 0


def test_unknown_types_of_a_test_file_count_as_missed(tagger):
    known = small_corpus()[:8]
    before = ner.evaluate(tagger, known)
    strange = Sentence(["the", "telephone", "rang"], ["O", "B-DEVICE", "O"])
    after = ner.evaluate(tagger, [*known, strange])
    row = after["per_type"]["DEVICE"]
    assert row == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert after["recall"] < before["recall"]


# ------------------------------------------------------------------------ raw text

hard_text = st.lists(
    st.text(max_size=8)
    | st.sampled_from(
        [
            *("Ada Lovelace", "Paris", " in ", ". ", "!\n\n", "\t", "\r\n", "New York"),
            *(
                "👩\u200d🔬",
                "☀\ufe0f",
                "e\u0301",
                "\ufffd",
                "\u00a0",
                "\u2028",
                "é",
                "İ",
            ),
        ]
    ),
    max_size=12,
).map("".join)


@given(st.lists(hard_text, max_size=3))
@settings(max_examples=40)
def test_offsets_slice_any_text_to_the_character(tagger, texts):
    results = ner.predict(tagger, texts)
    assert [result["text"] for result in results] == texts
    for text, result in zip(texts, results, strict=True):
        end = 0
        for mention in result["entities"]:
            assert set(mention) == {"start", "end", "type", "text"}
            assert text[mention["start"] : mention["end"]] == mention["text"]
            assert mention["text"].strip() == mention["text"] != ""
            assert mention["start"] >= end, "mentions overlap or are out of order"
            assert mention["type"] in {"PER", "LOC"}
            end = mention["end"]


def test_names_are_found_between_tabs_line_breaks_and_wide_characters(tagger):
    text = "☀\ufe0f In\tNew\u00a0York , we met Grace \t Hopper again .\r\n\r\n"
    text += "Alan moved to\u2003Göttingen . 👩\u200d🔬"
    (result,) = ner.predict(tagger, [text])
    found = {(mention["text"], mention["type"]) for mention in result["entities"]}
    assert {
        ("New\u00a0York", "LOC"),
        ("Grace \t Hopper", "PER"),
        ("Alan", "PER"),
        ("Göttingen", "LOC"),
    } <= found


def test_text_alone_gives_what_it_gives_among_others(tagger):
    texts = ["Alan moved to Paris .", "", " \n ", "In Lisbon , we met Noether again ."]
    together = ner.predict(tagger, texts)
    assert together == [ner.predict(tagger, [text])[0] for text in texts]
    assert [len(result["entities"]) for result in together] == [2, 0, 0, 2]
    assert ner.predict(tagger, []) == []


# ----------------------------------------------------------------- saving and seeds


def test_saved_and_loaded_tagger_gives_the_same_labels(tagger, tmp_path):
    tagger.save(tmp_path)
    loaded = ner.load(tmp_path, device="cpu", bf16=False)
    sentences = [s.words for s in small_corpus()]
    assert loaded.labels == tagger.labels
    assert loaded.tag(sentences) == tagger.tag(sentences)
    assert not list(tmp_path.glob("*.bin")) + list(tmp_path.glob("*.pkl"))
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["settings"]["train_sentences"] == 40
    assert report["settings"]["dev"] == "given"
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert card == model_card.text("ner", tagger.report)


def test_folder_without_a_tagger_is_refused(tmp_path, tiny_folder):
    with pytest.raises(BadInput, match="no such model folder"):
        ner.load(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="holds no tagger"):
        ner.load(tiny_folder)


def test_an_encoder_that_was_a_tagger_is_none(tagger, tmp_path):
    """Its configuration still has the names of the labels; the layer is gone."""
    tagger.save(tmp_path)
    models.load("AutoModel", tmp_path).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="holds no tagger: it has no layer"):
        ner.load(tmp_path)


def test_equally_many_other_types_get_a_new_layer(tagger, tmp_path, monkeypatch):
    tagger.save(tmp_path)
    seen = []
    monkeypatch.setattr(training, "fit", lambda model, *_, **__: seen.append(model))
    for kinds in (("LOC", "PER"), ("ANIMAL", "PLANT")):
        rows = [Sentence(["a", "b"], [f"B-{kind}" for kind in kinds])] * 2
        with contextlib.suppress(AttributeError):  # there is no history
            ner.train(rows, rows, model=tmp_path, progress=False)
    same, other = (model.classifier.weight for model in seen)
    torch.testing.assert_close(same, tagger.model.classifier.weight)
    assert other.shape == same.shape
    assert not torch.allclose(other, same)
    assert other.std() < 0.05


@pytest.mark.parametrize("typed", ["[SEP]", "[MASK]", "[UNK]"])
def test_special_tokens_that_somebody_typed_are_words(typed):
    tokenizer = models.load_tokenizer()
    (window,) = ner.encode([["see", typed, "there"]], tokenizer, 64)
    special = tokenizer.convert_tokens_to_ids(typed)
    assert special not in window.input_ids[1:-1]
    assert ner.unknown_words([["see", typed]], tokenizer) == [False, False]


@given(st.lists(st.integers(), min_size=2, max_size=80), st.integers(0, 99))
@settings(max_examples=40)
def test_held_out_tenth_is_seeded_and_loses_nothing(items, seed):
    numbered = list(enumerate(items))
    rest, tenth = ner.hold_out(numbered, seed)
    assert (rest, tenth) == ner.hold_out(numbered, seed)
    assert sorted(rest + tenth) == numbered
    assert len(tenth) == max(1, len(items) // 10)
    assert rest == sorted(rest)


def test_another_seed_holds_out_another_tenth():
    items = list(range(100))
    assert ner.hold_out(items, 1)[1] != ner.hold_out(items, 2)[1]


def test_without_dev_a_tenth_of_train_is_held_out_and_reported(tiny_folder):
    run = replace(CPU, epochs=1)
    trained = ner.train(small_corpus(), model=tiny_folder, settings=run, progress=False)
    report = trained.report["settings"]
    assert (report["train_sentences"], report["dev_sentences"]) == (36, 4)
    assert report["dev"] == "a seeded tenth of train"


def test_same_seed_gives_the_same_tagger_and_another_seed_another(tiny_folder):
    def trained(seed: int) -> dict[str, torch.Tensor]:
        torch.rand(seed)  # whatever was drawn before must not matter
        run = replace(CPU, epochs=2, seed=seed)
        corpus = small_corpus()
        return ner.train(
            corpus, corpus[:4], model=tiny_folder, settings=run, progress=False
        ).model.state_dict()

    one, same, other = trained(7), trained(7), trained(8)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])


def test_windows_of_a_long_training_sentence_are_all_learned_from(tiny_folder):
    long = Sentence(["Ada"] * 700, ["B-PER"] * 700)
    run = replace(CPU, epochs=1)
    trained = ner.train([long], [long], model=tiny_folder, settings=run, progress=False)
    assert trained.report["settings"]["windows"] == 2
    assert trained.history.real_tokens > 700


@pytest.mark.parametrize("odd", [Sentence([], []), Sentence(["x" * 3_000], ["O"])])
def test_odd_sentences_do_not_spoil_the_loss(odd, tiny_folder):
    run = replace(CPU, epochs=1, batch_size=1)
    corpus = [*small_corpus()[:3], odd]
    trained = ner.train(corpus, corpus, model=tiny_folder, settings=run, progress=False)
    assert all(loss == loss for _, loss in trained.history.loss)
    assert trained.model.classifier.weight.isfinite().all()


def test_training_data_that_teaches_nothing_is_refused(tiny_folder):
    outside = [Sentence(["a", "b"], ["O", "O"])] * 3
    with pytest.raises(BadInput, match="no mention: every label is O"):
        ner.train(outside, outside, model=tiny_folder, progress=False)
    with pytest.raises(BadInput, match="at least two sentences, or a dev file"):
        ner.train(small_corpus()[:1], model=tiny_folder, progress=False)


def test_label_names_are_complete_and_in_order():
    sentences = [Sentence(["a", "b"], ["B-PER", "O"]), Sentence(["c"], ["B-LOC"])]
    assert ner.label_names(sentences) == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert ner.label_names([]) == ["O"]


def test_words_of_raw_text_are_those_of_the_corpus():
    """`predict` cuts a text as `to_sentences` cut the training data."""
    for document in data.load_documents()[:10]:
        expected = [sentence.words for sentence in data.to_sentences(document)]
        text = document.text
        pieces = [text[a:b] for a, b in data.sentences(text)]
        assert [[p[a:b] for a, b in data.words(p)] for p in pieces] == expected
