"""The course's own corpus is sound, its card is current, its readers lose nothing."""

import csv
import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from decimal import Decimal
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats.contingency import association
from seqeval.scheme import IOB2, Entities

from kie_course import BadInput, corpus, data, retrieval
from kie_course.data import SPLITS, Sentence

DATA = data.home() / "data"
CARD = (DATA / "README.md").read_text("utf-8")
DOCUMENTS = data.load_documents()
MESSAGES = data.load_messages()


# ------------------------------------------------------------- the corpus as committed


def test_corpus_has_no_fault():
    assert corpus.problems() == []


LEAST = {
    "documents": 480,
    "words": 50_000,
    "mentions": 6000,
    "relations": 1200,
    "queries": 500,
    "judgements": 1200,
    "judgements: grade 1": 80,
    "questions": 500,
    "messages out of scope": 80,
} | dict.fromkeys((f"relations: {kind}" for kind in corpus.RELATIONS), 200)


def test_corpus_is_as_large_as_promised():
    table = corpus.statistics()
    assert [row for row, least in LEAST.items() if table[row]["all"] < least] == []
    assert table["size on disk, kB"]["all"] < 3000
    intents = Counter(message.intent for message in MESSAGES)
    assert set(intents) == {*corpus.INTENTS, corpus.OUT_OF_SCOPE}
    assert len(corpus.INTENTS) == 24
    assert min(intents.values()) >= 30
    assert min(len(d.text.split()) for d in DOCUMENTS) >= 60
    assert max(len(d.text.split()) for d in DOCUMENTS) <= 200
    assert table["noisy documents"]["all"] / table["documents"]["all"] > 0.1


def runs(text: str, length: int) -> list[tuple[str, ...]]:
    """All runs of `length` words in a text, casing ignored."""
    found = re.findall(r"[\w']+", text.lower())
    return list(zip(*(found[i:] for i in range(length)), strict=False))


def test_hardly_a_phrase_comes_again():
    holders, openings = defaultdict(set), Counter()
    for document in DOCUMENTS:
        phrases = runs(document.text, 5)
        openings[phrases[0]] += 1
        for phrase in phrases:
            holders[phrase].add(document.id)
    often = [phrase for phrase, ids in holders.items() if len(ids) > 3]
    assert len(often) <= 10, often
    assert [phrase for phrase, count in openings.items() if count > 1] == []


def test_messages_of_an_intent_open_in_many_ways():
    openings = Counter((m.intent, *runs(m.text + " . . .", 3)[:1]) for m in MESSAGES)
    assert [opening for opening, count in openings.items() if count > 2] == []


def test_no_query_is_worded_like_its_article():
    collection = data.load_retrieval()
    for query, text in collection.queries.items():
        article = collection.documents[query.rpartition("-")[0]]
        assert not {*runs(text, 5)} & {*runs(article, 5)}, query


def test_every_amount_of_the_documents_has_one_value():
    forms = {
        d.text[m["start"] : m["end"]]
        for d in DOCUMENTS
        for m in d.entities
        if m["type"] == "MONEY"
    }
    with (DATA / "values.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["form"] for row in rows) == sorted(forms)
    for row in rows:
        assert re.fullmatch(r"[A-Z]{3}|\?", row["currency"]), row
        amount = Decimal(row["amount"])
        assert amount > 0
        assert row["amount"] == format(amount.normalize(), "f")
        if row["to"]:
            assert Decimal(row["to"]) > amount
            assert row["to"] == format(Decimal(row["to"]).normalize(), "f")
        digits = re.sub(r"\D", "", row["form"])
        if digits and not row["to"]:  # the digits of the value are those of the form
            assert row["amount"].replace(".", "").strip("0") == digits.strip("0"), row


def test_values_are_read(tmp_path):
    values = data.load_values()
    assert values["19.9 MILLION DONG"] == "VND 19900000"
    assert values["15p"] == "GBP 0.15"
    assert values["$3-5 million"] == "? 3000000-5000000"
    with pytest.raises(BadInput, match="does not exist"):
        data.load_values(tmp_path)
    (tmp_path / "values.csv").write_text("form,value\n", encoding="utf-8")
    with pytest.raises(BadInput, match="columns"):
        data.load_values(tmp_path)


def test_gender_origin_and_role_are_not_tied_together():
    with (DATA / "persons.csv").open(encoding="utf-8") as file:
        persons = [row for row in csv.DictReader(file) if row["gender"] != "-"]
    named = {d.id: d.text for d in DOCUMENTS}
    assert all(row["document"] in named for row in persons)
    women = sum(row["gender"] == "f" for row in persons) / len(persons)
    assert 0.4 <= women <= 0.6
    for one, other in combinations(("gender", "origin", "role"), 2):
        pairs = Counter((row[one], row[other]) for row in persons)
        rows, columns = ({pair[i] for pair in pairs} for i in (0, 1))
        table = [[pairs[r, c] for c in sorted(columns)] for r in sorted(rows)]
        # Cramér's V is 0 for no tie and 1 for the closest.
        assert association(table, correction=False) < 0.2, (one, other)


def test_splits_share_no_text():
    texts = {s: {d.text for d in DOCUMENTS if d.split == s} for s in SPLITS}
    collection = data.load_retrieval()
    queries = {
        split: {collection.queries[query] for query in judged}
        for split, judged in collection.judgements.items()
    }
    questions = {
        split: {item["question"] for item in data.read_squad(squad(split))}
        for split in SPLITS
    }
    for layer in (texts, queries, questions):
        assert all(layer[split] for split in SPLITS)
        assert not any(layer[a] & layer[b] for a, b in combinations(SPLITS, 2))


def test_sentences_hold_every_mention_as_annotated():
    for document in DOCUMENTS:
        found = [
            (label, sentence.words[start:end])
            for sentence in data.to_sentences(document)
            for start, end, label in data.spans(sentence.labels)
        ]
        mentions = sorted(document.entities, key=lambda mention: mention["start"])
        texts = [(m["type"], document.text[m["start"] : m["end"]]) for m in mentions]
        assert found == [
            (label, [text[a:b] for a, b in data.words(text)]) for label, text in texts
        ]


@pytest.mark.parametrize("split", SPLITS)
def test_one_question_in_eight_has_no_answer(split):
    questions = data.read_squad(squad(split))
    assert 0.09 <= sum(not q["answers"] for q in questions) / len(questions) <= 0.17


def squad(split: str) -> Path:
    return DATA / "questions" / f"{split}.json"


# --------------------------------------------------------------------- planted faults

Plant = Callable[[Path], None]


def in_document(name: str, change: Callable[[dict], object]) -> Plant:
    """Change one document of `documents.jsonl`."""

    def plant(folder: Path) -> None:
        path = folder / "documents.jsonl"
        items = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        change(next(item for item in items if item["id"] == name))
        lines = [json.dumps(item, ensure_ascii=False) + "\n" for item in items]
        path.write_text("".join(lines), "utf-8")

    return plant


def in_file(name: str, old: str, new: str) -> Plant:
    """Replace the first occurrence in a file; surrogates become raw bytes."""

    def plant(folder: Path) -> None:
        text = (folder / name).read_text("utf-8")
        assert old in text
        changed = text.replace(old, new, 1).encode("utf-8", "surrogateescape")
        (folder / name).write_bytes(changed)

    return plant


def news(**changes) -> Plant:
    return in_document("news-002", lambda document: document.update(changes))


def mention(name: str, **changes: int | str) -> Plant:
    """Change a mention of news-002; a number is added to the offset."""

    def change(document: dict) -> None:
        found = next(m for m in document["entities"] if m["id"] == name)
        for key, value in changes.items():
            found[key] = found[key] + value if isinstance(value, int) else value

    return in_document("news-002", change)


def relation(**changes: str) -> Plant:
    """Change the first relation of news-002, works_for from e16 to e17."""
    return in_document("news-002", lambda d: d["relations"][0].update(changes))


def repeat_in_test(document: dict) -> None:
    """Put half of a training document's words into one of test."""
    twin = next(d for d in DOCUMENTS if d.id == "news-001")
    document["text"] += " " + " ".join(twin.text.split()[:60])


def copy_first_line(folder: Path) -> None:
    path = folder / "documents.jsonl"
    path.write_text(path.read_text("utf-8") + path.open(encoding="utf-8").readline())


def move_query(folder: Path) -> None:
    """Judge a query of train in dev as well."""
    with (folder / "retrieval" / "qrels" / "dev.tsv").open("a") as file:
        file.write("help-001-q1\thelp-001\t2\n")


ACROSS = "help-001-q1\thelp-009\t1"  # help-009 is in dev
QUESTION = "questions/train.json"
FAULTS: dict[str, tuple[Plant, str]] = {
    # name: how it is planted, what the one fault must say (a regular expression)
    "mention_with_space_after": (mention("e1", end=1), r"news-002: .* e1: .*space"),
    "mention_with_space_before": (mention("e1", start=-1), r"news-002: .* e1: .*space"),
    "mention_cuts_a_word": (mention("e1", end=-1), r"news-002: .* e1: .*Austra'"),
    "mention_crosses_a_sentence": (
        mention("e5", end=4),
        r"news-002: .* e5: .*June. In'",
    ),
    "mention_outside": (mention("e17", end=1), r"news-002: .* e17: .*not inside"),
    "mention_is_empty": (mention("e17", start=7), r"news-002: .* e17: .*not inside"),
    "mentions_overlap": (mention("e4", end=9), r"news-002: .*e4 and e5 overlap"),
    "mention_of_unknown_type": (mention("e1", type="NORP"), r"news-002: .*'NORP'"),
    "mention_id_twice": (mention("e1", id="e2"), r"news-002: .*'e2' occurs twice"),
    "relation_of_unknown_type": (relation(type="owns"), r"news-002: .*'owns'"),
    "relation_without_mention": (relation(head="e99"), r"news-002: .*'e99'"),
    "relation_backwards": (
        relation(head="e17", tail="e16"),
        r"news-002: .*works_for: ORG to PER",
    ),
    "unknown_kind": (
        in_document("filing-001", lambda d: d.update(kind="memo")),
        r"filing-001: kind 'memo'",
    ),
    "unknown_split": (news(split="valid"), r"news-002: split 'valid'"),
    "unknown_topic": (news(topic="sport"), r"news-002: topic 'sport'"),
    "news_without_sentiment": (news(sentiment=None), r"news-002: sentiment None"),
    "topic_outside_the_news": (
        in_document("city-001", lambda d: d.update(topic="law")),
        r"city-001: topic 'law'",
    ),
    "date_that_does_not_exist": (
        news(date="2031-02-30"),
        r"news-002: date '2031-02-30'",
    ),
    "date_of_another_year": (news(date="2030-12-31"), r"news-002: date 2030-12-31"),
    "empty_title": (news(title=""), r"news-002: the title is empty"),
    "text_with_space_at_its_end": (
        in_document("news-002", lambda d: d.update(text=d["text"] + "\n")),
        r"news-002: the text .*space",
    ),
    "unknown_key": (news(author="me"), r":2: not a document"),
    "mention_without_start": (
        in_document("news-002", lambda d: d["entities"][0].pop("start")),
        r":2: not a document .*'start'",
    ),
    "line_that_is_no_json": (
        in_file("documents.jsonl", '{"id": "news-002"', '"id": "news-002"'),
        r":2: not a document",
    ),
    "document_id_twice": (copy_first_line, r"'news-001' occurs twice"),
    "near_duplicate_across_splits": (
        in_document("people-004", repeat_in_test),
        r"news-001 \(train\) nearly repeats people-004 \(test\)",
    ),
    "documents_not_utf8": (
        in_file("documents.jsonl", "Crisps", "Cr\udce9sps"),
        r"documents\.jsonl:1: not UTF-8",
    ),
    "article_differs": (
        in_file("retrieval/corpus.jsonl", "Boxes piled up", "Boxes heaped up"),
        r"corpus\.jsonl: help-001 differs",
    ),
    "query_of_unknown_kind": (
        in_file("retrieval/queries.jsonl", '"kind": "chat"', '"kind": "sms"'),
        r"queries\.jsonl: help-001-q\d: kind 'sms'",
    ),
    "judgement_of_no_document": (
        in_file("retrieval/qrels/dev.tsv", "q1\thelp-009", "q1\thelp-999"),
        r"dev\.tsv:2: document 'help-999'",
    ),
    "judgement_of_no_query": (
        in_file("retrieval/qrels/dev.tsv", "help-009-q1\t", "help-999-q1\t"),
        r"dev\.tsv:2: query 'help-999-q1'",
    ),
    "train_learns_from_dev": (
        in_file("retrieval/qrels/train.tsv", "help-001\t2", "help-001\t2\n" + ACROSS),
        r"train\.tsv: help-001-q1: document help-009 is in dev",
    ),
    "own_article_is_no_answer": (
        in_file("retrieval/qrels/dev.tsv", "q1\thelp-009\t2", "q1\thelp-009\t1"),
        r"dev\.tsv: help-009-q1: its own article help-009 has not grade 2",
    ),
    "query_in_two_splits": (
        move_query,
        r"qrels: help-001-q1 is judged in two|help-001-q1: document help-001 is in tr",
    ),
    "judgements_missing": (
        lambda folder: (folder / "retrieval" / "qrels" / "test.tsv").unlink(),
        r"test\.tsv: no such file",
    ),
    "answer_beside_its_offset": (
        in_file(QUESTION, '"answer_start": ', '"answer_start": 1'),
        r"train\.json: answer .* 'news-001-a1'",
    ),
    "answer_with_space": (
        in_file(QUESTION, '"text": "Abidjan and Lomé"', '"text": "Abidjan and Lomé "'),
        r"train\.json: news-001-a1: answer .*space",
    ),
    "question_id_twice": (
        in_file(QUESTION, "news-001-a2", "news-001-a1"),
        r"train\.json: .*'news-001-a1' occurs twice",
    ),
    "question_id_of_another_split": (
        in_file(QUESTION, "news-001-a2", "news-012-a2"),
        r"train\.json: news-012-a2: the id does not begin with news-001-a",
    ),
    "context_differs": (
        in_file(QUESTION, "Plantain crisps", "Plantain snacks"),
        r"train\.json: news-001-a\d: the context is not the text of news-001",
    ),
    "question_in_the_wrong_split": (
        in_document("news-001", lambda d: d.update(split="dev")),
        r"train\.json: news-001-a\d: document news-001 is in dev",
    ),
    "impossible_with_an_answer": (
        in_file(QUESTION, '"is_impossible": false', '"is_impossible": true'),
        r"train\.json: news-001-a1: is_impossible contradicts",
    ),
    "unknown_intent": (
        in_file("messages.jsonl", '"intent": "bill_question"', '"intent": "bill"'),
        r"messages\.jsonl: msg-\d+: intent 'bill' is unknown",
    ),
    "unknown_severity": (
        in_file("messages.jsonl", '"severity": "none"', '"severity": "low"'),
        r"messages\.jsonl: msg-001: severity 'low' is unknown",
    ),
    "message_id_twice": (
        in_file("messages.jsonl", '"id": "msg-002"', '"id": "msg-001"'),
        r"messages\.jsonl: id 'msg-001' occurs twice",
    ),
    "message_without_text": (
        in_file("messages.jsonl", '"text": "I paid twice', '"text": " I paid twice'),
        r"messages\.jsonl: msg-001: the text .*space",
    ),
    "message_without_intent": (
        in_file("messages.jsonl", '"intent": "bill_question", ', ""),
        r"messages\.jsonl:1: .*intent",
    ),
    "questions_missing": (
        lambda folder: (folder / QUESTION).unlink(),
        r"train\.json: no such file",
    ),
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(DATA, tmp_path / "data")


def test_untouched_copy_has_no_fault(copy):
    in_document("news-002", lambda document: None)(copy)
    assert corpus.problems(copy) == []


@pytest.mark.parametrize(("plant", "message"), FAULTS.values(), ids=FAULTS)
def test_planted_fault_is_named(copy, plant, message):
    plant(copy)
    faults = corpus.problems(copy)
    assert faults
    assert all(re.search(message, fault) for fault in faults)
    assert all(str(copy) in fault and "\n" not in fault for fault in faults)


def test_faults_of_all_layers_are_collected(copy):
    names = (
        "documents_not_utf8",
        "judgement_of_no_query",
        "question_id_twice",
    )
    for name in names:
        FAULTS[name][0](copy)
    faults = corpus.problems(copy)
    assert len(faults) == len(names)
    for fault, name in zip(faults, names, strict=True):
        assert re.search(FAULTS[name][1], fault)


def test_every_fault_of_a_document_is_collected(copy):
    news(split="valid", topic="sport", date="today")(copy)
    mention("e1", end=1)(copy)
    assert len(corpus.problems(copy)) == 4


# --------------------------------------------------------------------------- the card


def test_table_of_the_card_is_current():
    shown = re.search(r"<!-- stats -->\n(.*)\n<!-- /stats -->", CARD, re.DOTALL)[1]
    assert shown == corpus.statistics_table()


def test_statistics_add_up():
    table = corpus.statistics()
    for row in corpus.COUNTS:
        assert table[row]["all"] == sum(table[row][split] for split in SPLITS)
        for column in corpus.COLUMNS:
            kinds = [v[column] for r, v in table.items() if r.startswith(f"{row}: ")]
            assert not kinds or sum(kinds) == table[row][column]
    sentences = [s for split in SPLITS for s in data.load_sentences(split)]
    assert table["documents"]["all"] == len(DOCUMENTS)
    assert table["sentences"]["all"] == len(sentences)
    assert table["tokens"]["all"] == sum(len(s.words) for s in sentences)
    assert table["mentions"]["all"] == sum(len(data.spans(s.labels)) for s in sentences)


def test_share_of_seen_mentions_counts_surface_forms():
    forms = {split: [] for split in SPLITS}
    for document in DOCUMENTS:
        for found in document.entities:
            form = document.text[found["start"] : found["end"]]
            forms[document.split].append(form.lower())
    seen = [form in set(forms["train"]) for form in forms["test"]]
    share = corpus.statistics()["mentions seen in training, share"]["test"]
    assert share == pytest.approx(sum(seen) / len(seen), abs=5e-4)
    assert share <= 0.45


def test_card_states_the_score_of_bm25():
    collection = data.load_retrieval()
    ranker = retrieval.Bm25(collection.documents)
    score = retrieval.mean(retrieval.evaluate(ranker, collection, "test"))["ndcg@10"]
    assert f"nDCG@10 of about {score:.2f}".replace("0.", ".") in CARD


def test_examples_of_the_card_are_real(tmp_path):
    corpus.export("conll", tmp_path)
    shown = dict.fromkeys(["json", ""], "")
    for language, block in re.findall(r"```(\w*)\n(.*?)```", CARD, re.DOTALL):
        shown[language] += block + "\0"
    columns, judgements = shown[""].split("\0")[:2]
    assert columns in (tmp_path / "train.conll").read_text("utf-8")
    qrels = (DATA / "retrieval" / "qrels" / "train.tsv").read_text("utf-8")
    assert set(judgements.splitlines()) <= set(qrels.splitlines())

    examples = map(json.loads, shown["json"].split("\0")[:4])
    document, query, message, question = examples
    assert message in map(vars, MESSAGES)
    whole = vars(next(d for d in DOCUMENTS if d.id == document["id"]))
    assert whole["text"].startswith(document.pop("text").removesuffix("…"))
    for key in ("entities", "relations"):
        assert all(item in whole[key] for item in document.pop(key))
    assert document.items() <= whole.items()
    queries = (DATA / "retrieval" / "queries.jsonl").read_text("utf-8")
    assert query in map(json.loads, queries.splitlines())
    articles = json.loads(squad("train").read_text("utf-8"))["data"]
    assert question in [qa for a in articles for qa in a["paragraphs"][0]["qas"]]


# ----------------------------------------------------------------------------- export


@pytest.mark.parametrize("types", [None, ["PER", "ORG", "LOC"]])
def test_exported_columns_read_back_equal(tmp_path, types):
    files = corpus.export("conll", tmp_path / "new" / "folder", types)
    assert [file.name for file in files] == ["train.conll", "dev.conll", "test.conll"]
    for split, file in zip(SPLITS, files, strict=True):
        assert data.read_conll(file) == data.load_sentences(split, types)


def test_exported_beir_folder_reads_back_equal(tmp_path):
    files = corpus.export("beir", tmp_path)
    assert all(file.is_file() for file in files)
    assert data.read_beir(tmp_path) == data.load_retrieval()


def test_exported_squad_reads_back_equal(tmp_path):
    for split, file in zip(SPLITS, corpus.export("squad", tmp_path), strict=True):
        assert file.name == f"{split}.json"
        assert data.read_squad(file) == data.read_squad(squad(split))


@pytest.mark.parametrize("format", corpus.EXPORTS)
def test_export_overwrites_nothing(tmp_path, format):
    last = corpus.export(format, tmp_path)[-1]
    for file in corpus.export(format, tmp_path / "second")[:-1]:
        file.unlink()
    before = last.stat().st_mtime_ns
    for folder in (tmp_path, tmp_path / "second"):
        with pytest.raises(BadInput, match="exists already"):
            corpus.export(format, folder)
    assert last.stat().st_mtime_ns == before
    assert len([f for f in (tmp_path / "second").rglob("*") if f.is_file()]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("csv", "out"), "'csv' is not one of conll, beir, squad"),
        (("conll", "out", ["PER", "CITY"]), "'CITY' is not one of PER, ORG"),
        (("beir", "out", ["PER"]), "leave the types out"),
        (("conll", "file"), "file: this is a file; name a folder"),
    ],
)
def test_bad_export_is_refused(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(BadInput, match=message):
        corpus.export(*arguments)
    assert not Path("out").exists()


# ------------------------------------------------------------------ words and sentences

# Random characters, and text that is full of what ends a sentence or joins a word.
texts = st.text() | st.text(alphabet="aA1é .,!?'’\"”\n\t-$€")


@given(texts)
def test_words_cover_every_visible_character_once(text):
    spans = data.words(text)
    assert "".join(text[a:b] for a, b in spans) == "".join(text.split())
    assert all(a < b for a, b in spans)
    assert spans == sorted(spans)


@given(texts)
def test_sentences_cut_no_word_and_lose_none(text):
    pieces = [text[a:b] for a, b in data.sentences(text)]
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(piece.strip() for piece in pieces)
    assert [
        (start + a, start + b)
        for start, end in data.sentences(text)
        for a, b in data.words(text[start:end])
    ] == data.words(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Meet Dr. Okafor in St. Ives. Bring tea.", 2),
        ('J. Marlow left. "Why?" asked no one.', 2),
        ("It cost 4.5 million. 3 May was late.", 2),
        ("One heading\n\nand a line below", 2),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text, expected):
    assert len(data.sentences(text)) == expected


@given(st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), max_size=12))
def test_spans_are_those_of_strict_seqeval(labels):
    entities = Entities([labels], scheme=IOB2).entities[0]
    assert data.spans(labels) == [(e.start, e.end, e.tag) for e in entities]


# ---------------------------------------------------------------------------- schemes

# Of all spaces, the ASCII one alone ends a column.
visible = st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters=" ")
tokens = st.text(visible, min_size=1, max_size=8)
# A sentence is a list of chunks: a type (None is outside) and how many words.
chunks = st.tuples(st.sampled_from([None, "PER", "ORG", "a-b"]), st.integers(1, 4))
labelled = st.lists(st.lists(chunks, min_size=1, max_size=6), min_size=1, max_size=4)


def as_iob2(sentence) -> list[str]:
    labels = []
    for kind, size in sentence:
        inside = [f"I-{kind}"] * (size - 1)
        labels += [f"B-{kind}", *inside] if kind else ["O"] * size
    return labels


def as_iob1(sentence) -> list[str]:
    labels, previous = [], None
    for kind, size in sentence:
        first = f"B-{kind}" if kind == previous else f"I-{kind}"
        labels += [first, *[f"I-{kind}"] * (size - 1)] if kind else ["O"] * size
        previous = kind
    return labels


def as_iobes(sentence) -> list[str]:
    labels = []
    for kind, size in sentence:
        middle = [f"I-{kind}"] * (size - 2)
        many = [f"B-{kind}", *middle, f"E-{kind}"]
        labels += ["O"] * size if not kind else many if size > 1 else [f"S-{kind}"]
    return labels


@pytest.mark.parametrize("write", [as_iob1, as_iob2, as_iobes])
@given(sentences=labelled, content=st.data())
def test_every_scheme_reads_as_iob2(tmp_path_factory, write, sentences, content):
    expected, rows = [], ["-DOCSTART- -X- O\n"]
    for sentence in sentences:
        labels = as_iob2(sentence)
        size = len(labels)
        words = content.draw(st.lists(tokens, min_size=size, max_size=size))
        expected.append(Sentence(words, labels))
        tagged = zip(words, write(sentence), strict=True)
        rows.append("".join(f"{word} x\t{tag}\n" for word, tag in tagged))
    path = tmp_path_factory.mktemp("schemes") / "file.conll"
    path.write_text("\n".join(rows), "utf-8")
    assert data.read_conll(path) == expected
    data.write_conll(path, expected)
    assert data.read_conll(path) == expected


@given(labelled)
def test_unwanted_types_become_outside(tmp_path_factory, sentences):
    path = tmp_path_factory.mktemp("types") / "file.conll"
    labels = [as_iob2(sentence) for sentence in sentences]
    data.write_conll(path, [Sentence(["w"] * len(row), row) for row in labels])
    kept = [["O" if label[2:] != "PER" else label for label in row] for row in labels]
    assert [s.labels for s in data.read_conll(path, types=["PER"])] == kept


# ------------------------------------------------------- bad files, named with the line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Ann\tB-PER\n\nof\n", ":3: 'of' has no tag"),
        ("Ann\tB-PER\rsings\tO\r", ":1: a line ends in CR alone"),
        ("Ann\tB-PER\nLee\tPER\n", ":2: tag 'PER' is neither"),
        ("Ann\tI-PER\nof\tO\nRome\tB-LOC\n", ": mixes IOB1 .line 1. and IOB2 .line 3."),
        ("Ann\tB-PER\nof\tO\nRome\tS-LOC\n", ":1: tag 'B-PER' does not fit"),
        ("Ann\tB-PER\nL\udce9e\tI-PER\n", ":2: not UTF-8"),
        ("-DOCSTART- O\n\n", ": no sentence"),
        ("\n", ": the file is empty"),
    ],
)
def test_bad_conll_file_is_named(tmp_path, text, message):
    path = tmp_path / "names.conll"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput, match=f"{re.escape(str(path))}{message}"):
        data.read_conll(path)


BEIR = {
    "corpus.jsonl": '{"_id": "d1", "text": "tea"}\n{"_id": "d2", "text": ""}\n',
    "queries.jsonl": '{"_id": "q1", "text": "a drink"}\n',
    "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n",
}


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    (tmp_path / "qrels").mkdir()
    for name, text in BEIR.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_small_beir_folder_is_read(beir):
    assert data.read_beir(beir).judgements == {"test": {"q1": {"d1": 1, "d2": 0}}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("corpus.jsonl", '{"_id": "d1", "text": "a"}\n{"_id"', ":2: not JSON"),
        ("corpus.jsonl", '{"_id": "d1", "text": "a"}\n["d2"]', ":2: no '_id'"),
        ("corpus.jsonl", '\n{"_id": "d1"}\n', ":2: no 'text'"),
        ("corpus.jsonl", BEIR["corpus.jsonl"] * 2, ":3: id 'd1' occurs twice"),
        ("corpus.jsonl", "", ": the file is empty"),
        ("queries.jsonl", '{"_id": "q1", "text": " "}', ": query 'q1' is empty"),
        ("qrels/test.tsv", "q1\td1\t1\nq1\td3\t1\n", ":2: document 'd3'"),
        ("qrels/test.tsv", "q1\td1\t1\nq2\td1\t1\n", ":2: query 'q2'"),
        ("qrels/test.tsv", "q1\td1\t1\nq1\td1\t2\n", ":2: .* judged twice"),
        ("qrels/test.tsv", "q1\td1\t0.5\n", ":1: .* whole-number"),
        ("qrels/test.tsv", "q1 d1 1\n", ":1: .* separated by tabs"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", ": no judgement"),
    ],
)
def test_bad_beir_file_is_named(beir, name, text, message):
    (beir / name).write_text(text)
    with pytest.raises(BadInput, match=f"{re.escape(str(beir / name))}{message}"):
        data.read_beir(beir)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\nhello,greeting\n", ":1: .*text,category"),
        ("text,category\nhello,greeting\nbye\n", ":3: a row without"),
        ('text,category\n"two\nlines",a\n,b\n', ":4: a row without"),
        ("", ": the file is empty"),
        ("text,category\nhello,a\ncaf\udce9,b\n", ":3: not UTF-8"),
        ("text,category\nhello, world,greeting\n", ":2: too many columns"),
        ('text,category\n"hello,a\nx,y\n"foo, bar",c\n', ":4: .* a quote left open"),
        ('text,category\nx,y\n"hello,a\n', ":3: .* a quote left open"),
    ],
)
def test_bad_csv_file_is_named(tmp_path, text, message):
    path = tmp_path / "intents.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput, match=f"{re.escape(str(path))}{message}"):
        data.read_labelled_csv(path)


CONTEXT = {"context": "Tea is hot.", "qas": []}


def squad_json(*questions: dict) -> str:
    article = {"title": "tea", "paragraphs": [CONTEXT | {"qas": list(questions)}]}
    return json.dumps({"version": "v2.0", "data": [article]})


def question(
    name: str = "q1", text: str = "What is hot?", start: int = 0, answer: str = "Tea"
) -> dict:
    answers = [{"text": answer, "answer_start": start}]
    return {"id": name, "question": text, "answers": answers}


def test_small_squad_file_is_read(tmp_path):
    path = tmp_path / "squad.json"
    path.write_text(squad_json(question(), question("q2") | {"answers": []}))
    assert [q["answers"] for q in data.read_squad(path)] == [[(0, "Tea")], []]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": [\n{"title" "tea"}]}', ": not SQuAD JSON .*line 2"),
        ('{"data": [{"title": "tea"}]}', ": not SQuAD JSON .*'paragraphs'"),
        (squad_json(question(start=1)), ": answer 'Tea' of question 'q1'"),
        (squad_json(question(), question()), ": question id 'q1' occurs twice"),
        (squad_json(question(text=" ")), ": question 'q1' is empty"),
        (squad_json(question(start=-1, answer="")), ": an answer of question 'q1' nee"),
        (
            squad_json(question(start="0")),
            ": an answer of question 'q1' needs a number",
        ),
        (squad_json(question(answer=None)), ": an answer of question 'q1' needs"),
        (
            squad_json(question()).replace('"Tea is hot."', "null"),
            ": the context of 'q1' is no text",
        ),
    ],
)
def test_bad_squad_file_is_named(tmp_path, text, message):
    path = tmp_path / "squad.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=f"{re.escape(str(path))}{message}"):
        data.read_squad(path)


CLINC = {
    split: [[f"text {split}", "oos" if "oos" in split else "greeting"]]
    for part in ("train", "val", "test")
    for split in (part, f"oos_{part}")
}


def test_small_clinc_file_is_read(tmp_path):
    path = tmp_path / "clinc.json"
    path.write_text(json.dumps(CLINC))
    assert data.read_clinc(path) == {
        split: [(f"text {own}", "greeting"), (f"text oos_{own}", data.OUT_OF_SCOPE)]
        for split, own in (("train", "train"), ("dev", "val"), ("test", "test"))
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": [["a"]]}, ": not CLINC150's JSON"),
        ({"val": 3}, ": not CLINC150's JSON"),
        ({"val": [], "oos_val": []}, ": the list for dev is empty"),
        ({"test": [[" ", "greeting"]]}, ": a text for test is empty"),
        ({"test": [[3, "greeting"]]}, ": a text for test is empty, or no text"),
    ],
)
def test_bad_clinc_file_is_named(tmp_path, change, message):
    path = tmp_path / "clinc.json"
    path.write_text(json.dumps(CLINC | change))
    with pytest.raises(BadInput, match=f"{re.escape(str(path))}{message}"):
        data.read_clinc(path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"train": []}'])
def test_what_is_no_clinc_file_is_an_error(tmp_path, text):
    path = tmp_path / "clinc.json"
    path.write_text(text)
    with pytest.raises(BadInput, match="not CLINC150's JSON"):
        data.read_clinc(path)


SEMEVAL = '7\t"The <e1>bell</e1> of the <e2>red tower</e2> rang."\n'


def test_small_semeval_file_is_read(tmp_path):
    path = tmp_path / "semeval.txt"
    other = SEMEVAL.replace("7", "8")
    path.write_bytes(
        f"{SEMEVAL}Component-Whole(e1,e2)\r\nComment: a part\r\n\r\n"
        f"{other}Other\n".encode()
    )
    first, second = data.read_semeval(path)
    assert first.text == second.text == "The bell of the red tower rang."
    assert [first.text[a:b] for a, b in (first.head, first.tail)] == [
        "bell",
        "red tower",
    ]
    assert first.label == "Component-Whole(e1,e2)"
    assert second.label == data.NO_RELATION


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": the file is empty"),
        ("Comment: nothing\n", ": no sentence in this file"),
        (SEMEVAL, ":1: this sentence's label is missing"),
        (SEMEVAL + "Part-Whole\n", ":2: 'Part-Whole' is no label"),
        (SEMEVAL + "\nOther\n", ":2: '' is no label"),
        (SEMEVAL + "Other\n\nOther\n", ":4: write a number, a tab"),
        ('1\t"A <e1>bell</e1> and a tower."\nOther\n', ":1: .*<e2>"),
        ('1\t"A <e1></e1> and a <e2>b</e2>."\nOther\n', ":1: .*<e1>"),
    ],
)
def test_bad_semeval_file_is_named(tmp_path, text, message):
    path = tmp_path / "semeval.txt"
    path.write_text(text)
    with pytest.raises(BadInput, match=f"{re.escape(str(path))}{message}"):
        data.read_semeval(path)


# ------------------------------------------------------------------- public collections


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("wnut17/train.conll", 3394),
        ("wnut17/dev.conll", 1009),
        ("wnut17/test.conll", 1287),
        ("bc5cdr/train.tsv", 4560),
        ("bc5cdr/devel.tsv", 4581),
        ("bc5cdr/test.tsv", 4797),
        ("crossner-ai/train.txt", 100),
        ("crossner-ai/dev.txt", 350),
        ("crossner-ai/test.txt", 431),
        ("crossner-politics/train.txt", 200),
        ("crossner-politics/dev.txt", 541),
        ("crossner-politics/test.txt", 651),
        ("sec-filings/FIN5.txt", 1164),
        ("sec-filings/FIN3.txt", 303),
        ("wikigold/wikigold.conll.txt", 1696),
    ],
)
def test_public_ner_files_are_read_whole(kie_data, name, count):
    sentences = data.read_conll(kie_data / "ner" / name)
    assert len(sentences) == count
    for sentence in sentences:  # every label that is not O belongs to a mention
        covered = sum(end - start for start, end, _ in data.spans(sentence.labels))
        assert covered == sum(label != "O" for label in sentence.labels)


@pytest.mark.parametrize(
    ("name", "documents", "queries"),
    [
        ("scifact", 5183, {"train": 809, "test": 300}),
        ("stackfaq", 125, {"test": 1249}),
    ],
)
def test_public_retrieval_folders_are_read_whole(kie_data, name, documents, queries):
    collection = data.read_beir(kie_data / "retrieval" / name)
    assert len(collection.documents) == documents
    judgements = collection.judgements
    assert {split: len(judged) for split, judged in judgements.items()} == queries


def test_public_squad_file_is_read_whole(kie_data):
    questions = data.read_squad(kie_data / "qa" / "squad-dev-v1.1.json")
    assert len(questions) == 10_570
    assert len({question["context"] for question in questions}) == 2_067
    assert len({question["title"] for question in questions}) == 48


@pytest.mark.parametrize(("name", "count"), [("train", 10_003), ("test", 3_080)])
def test_public_intent_files_are_read_whole(kie_data, name, count):
    path = kie_data / "intent" / "banking77" / f"{name}.csv"
    pairs = data.read_labelled_csv(path)
    assert len(pairs) == count
    assert len({label for _, label in pairs}) == 77


@pytest.mark.parametrize(
    ("split", "inside", "outside"),
    [("train", 15_000, 100), ("dev", 3_000, 100), ("test", 4_500, 1_000)],
)
def test_public_clinc_file_is_read_whole(kie_data, split, inside, outside):
    pairs = data.read_clinc(kie_data / "intent" / "clinc150" / "data_full.json")[split]
    labels = [label for _, label in pairs]
    assert labels.count(data.OUT_OF_SCOPE) == outside
    assert len(labels) == inside + outside
    assert len(set(labels)) == 151


@pytest.mark.parametrize(
    ("name", "count", "other"),
    [("TRAIN_FILE.TXT", 8_000, 1_410), ("TEST_FILE_FULL.TXT", 2_717, 454)],
)
def test_public_relation_files_are_read_whole(kie_data, name, count, other):
    path = kie_data / "relation" / "semeval2010-task8" / name
    pairs = data.read_semeval(path)
    assert len(pairs) == count
    assert sum(pair.label == data.NO_RELATION for pair in pairs) == other
    assert len({pair.label for pair in pairs}) == 19
    raw = path.read_text("utf-8")
    for pair in pairs:
        (a, b), (c, d) = pair.head, pair.tail
        text = pair.text
        assert (
            f"{text[:a]}<e1>{text[a:b]}</e1>{text[b:c]}<e2>{text[c:d]}</e2>{text[d:]}"
        ) in raw
