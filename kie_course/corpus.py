"""The course's own corpus as a whole: its validators, its statistics, its export.

Its layers are documents with mentions and relations (`documents.jsonl`), a BEIR folder
(`retrieval/`), SQuAD questions (`questions/`), customers' messages (`messages.jsonl`)
and simulated clicks (`clicks.csv`); `data/README.md` describes them.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from itertools import combinations, pairwise
from pathlib import Path

from kie_course import BadInput, data, layout
from kie_course.annotation import agreement
from kie_course.data import OUT_OF_SCOPE, SPLITS, Document, home

TYPES = ("PER", "ORG", "LOC", "DATE", "MONEY", "PRODUCT")
KINDS = ("news", "filing", "people", "city", "help")
TOPICS = ("results", "deals", "people", "products", "law", "operations")
SENTIMENTS = ("negative", "neutral", "positive")
QUERY_KINDS = ("keywords", "question", "problem", "chat")
YEARS = (2031, 2032)
# Relation: the types it may lead from, the types it may lead to.
RELATIONS = {
    "works_for": (("PER",), ("ORG",)),
    "founded": (("PER", "ORG"), ("ORG",)),
    "acquired": (("ORG",), ("ORG", "PRODUCT")),
    "located_in": (("ORG", "LOC"), ("LOC",)),
    "launched": (("ORG",), ("PRODUCT",)),
}
INTENTS = (
    # operator
    *("no_connection", "slow_connection", "moving_house"),
    *("cancel_contract", "bill_question", "roaming_abroad"),
    # shop
    *("track_order", "return_item", "refund_status"),
    *("damaged_item", "change_delivery_address", "voucher_problem"),
    # bank
    *("card_lost", "card_blocked", "transfer_pending"),
    *("unknown_charge", "open_account", "exchange_rate"),
    # railway and buses
    *("ticket_refund", "delay_compensation", "lost_property"),
    *("seat_reservation", "season_pass", "travel_with_bike"),
)
SEVERITIES = ("none", "mild", "severe")
# Near-duplicates share more than a tenth of the shorter one's runs of eight words.
SHINGLE, SHARED = 8, 0.1


# --- validators ----------------------------------------------------------------------


def problems(folder: Path | None = None) -> list[str]:
    """Every fault of the corpus, each as one sentence that names the file and the id.

    A file that cannot be read is a fault too; the others are checked all the same.

    Args:
        folder: the folder of `documents.jsonl`; by default the course's own `data/`.
    """
    folder = Path(folder or home() / "data")
    documents: list[Document] = []  # the first check fills it, the others use it
    checks = [
        _over_documents(folder / "documents.jsonl", documents),
        _over_retrieval(folder / "retrieval", documents),
        *(_over_questions(folder / "questions", split, documents) for split in SPLITS),
        _over_messages(folder),
    ]
    return [fault for check in checks for fault in _reported(check)]


def _reported(check: Iterator[str]) -> Iterator[str]:
    try:
        yield from check
    except BadInput as error:
        yield str(error)


def _over_documents(path: Path, documents: list[Document]) -> Iterator[str]:
    for number, line in list(data.read_lines(path)):
        if line.strip():
            try:
                document = Document(**json.loads(line))
                for check in (_over_fields, _over_mentions, _over_relations):
                    yield from (f"{path}: {document.id}: {f}" for f in check(document))
                documents.append(document)
            except (TypeError, ValueError, KeyError, AttributeError) as error:
                yield f"{path}:{number}: not a document of this corpus ({error!r})"
    for name in _repeated(document.id for document in documents):
        yield f"{path}: document id {name!r} occurs twice"
    yield from (f"{path}: {fault}" for fault in _near_duplicates(documents))


def _near_duplicates(documents: list[Document]) -> Iterator[str]:
    size, holders = Counter(), defaultdict(list)
    for document in documents:
        for shingle in _shingles(document.text):
            size[document.id] += 1
            holders[shingle].append(document)
    # Few runs of words stand in two documents: only those pairs are looked at.
    shared = Counter(
        ((a.id, a.split), (b.id, b.split))
        for those in holders.values()
        for a, b in combinations(those, 2)
        if a.split != b.split
    )
    for ((a, one), (b, other)), count in shared.items():
        if count > SHARED * min(size[a], size[b]):
            yield f"{a} ({one}) nearly repeats {b} ({other})"


def _over_fields(document: Document) -> Iterator[str]:
    news = document.kind == "news"
    known = {
        "kind": KINDS,
        "split": SPLITS,
        "noise": (True, False),
        "topic": TOPICS if news else (None,),
        "sentiment": SENTIMENTS if news else (None,),
    }
    for key, values in known.items():
        if (value := getattr(document, key)) not in values:
            yield f"{key} {value!r} is not one of {', '.join(map(str, values))}"
    for key in ("title", "text"):
        if not (value := getattr(document, key)) or value != value.strip():
            yield f"the {key} is empty or has space at its ends"
    try:
        if date.fromisoformat(document.date).year not in YEARS:
            yield f"date {document.date} is not in {YEARS[0]} or {YEARS[1]}"
    except ValueError:
        yield f"date {document.date!r} is not of the form 2031-12-31"


def _over_mentions(document: Document) -> Iterator[str]:
    for name in _repeated(mention["id"] for mention in document.entities):
        yield f"mention id {name!r} occurs twice"
    all_fit = _fits(document)
    for mention in document.entities:
        name, start, end = mention["id"], mention["start"], mention["end"]
        text = document.text[start:end]
        if mention["type"] not in TYPES:
            yield f"mention {name}: type {mention['type']!r} is unknown"
        if not 0 <= start < end <= len(document.text):
            yield f"mention {name}: {start}-{end} is not inside the text"
        elif text != text.strip():
            yield f"mention {name}: {text!r} has space at its ends"
        elif not (all_fit or _fits(replace(document, entities=[mention]))):
            yield f"mention {name}: {text!r} cuts a word or crosses a sentence end"
    in_order = sorted(document.entities, key=lambda mention: mention["start"])
    for one, other in pairwise(in_order):
        if one["end"] > other["start"]:
            yield f"mentions {one['id']} and {other['id']} overlap"


def _fits(document: Document) -> bool:
    """Whether every mention begins and ends with a word inside one sentence."""
    try:
        return bool(data.to_sentences(document))
    except BadInput:
        return False


def _over_relations(document: Document) -> Iterator[str]:
    types = {mention["id"]: mention["type"] for mention in document.entities}
    for relation in document.relations:
        kind, head, tail = relation["type"], relation["head"], relation["tail"]
        ends = zip((head, tail), RELATIONS.get(kind, ()), strict=False)
        if kind not in RELATIONS:
            yield f"relation {kind!r} is unknown"
        elif not {head, tail} <= types.keys():
            yield f"relation {kind}: there is no mention {head!r} or no {tail!r}"
        elif any(types[end] not in allowed for end, allowed in ends):
            yield f"relation {kind}: {types[head]} to {types[tail]} is not allowed"


def _shingles(text: str) -> set[tuple[str, ...]]:
    found = text.lower().split()
    return set(zip(*(found[i:] for i in range(SHINGLE)), strict=False))


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _over_retrieval(folder: Path, documents: list[Document]) -> Iterator[str]:
    collection = data.read_beir(folder)
    articles = {d.id: f"{d.title}\n{d.text}" for d in documents if d.kind == "help"}
    for name in sorted(articles.keys() | collection.documents.keys()):
        if documents and articles.get(name) != collection.documents.get(name):
            yield f"{folder / 'corpus.jsonl'}: {name} differs from documents.jsonl"
    for query, kind in _query_kinds(folder).items():
        if kind not in QUERY_KINDS:
            yield f"{folder / 'queries.jsonl'}: {query}: kind {kind!r} is unknown"
    for query in _repeated(q for j in collection.judgements.values() for q in j):
        yield f"{folder / 'qrels'}: {query} is judged in two splits"
    split_of = {document.id: document.split for document in documents}
    for split in SPLITS:
        file = folder / "qrels" / f"{split}.tsv"
        if split not in collection.judgements:
            yield f"{file}: no such file"
        for query, judged in collection.judgements.get(split, {}).items():
            own = query.rpartition("-")[0]
            if judged.get(own) != 2:
                yield f"{file}: {query}: its own article {own} has not grade 2"
            # A query learns from nothing that dev or test is asked about.
            for name in judged if split == "train" else (own,):
                if split_of.get(name, split) != split:
                    yield f"{file}: {query}: document {name} is in {split_of[name]}"


def _query_kinds(folder: Path) -> dict[str, str | None]:
    items = data.read_jsonl(folder / "queries.jsonl", "_id", "metadata")
    return {item["_id"]: item["metadata"].get("kind") for _, item in items}


def _over_questions(
    folder: Path, split: str, documents: list[Document]
) -> Iterator[str]:
    path = folder / f"{split}.json"
    by_id = {document.id: document for document in documents}
    for item in data.read_squad(path):
        name, document = item["id"], by_id.get(item["title"])
        if not name.startswith(item["title"] + "-a"):  # so ids differ between splits
            yield f"{path}: {name}: the id does not begin with {item['title']}-a"
        if documents and (document is None or document.text != item["context"]):
            yield f"{path}: {name}: the context is not the text of {item['title']}"
        if document is not None and document.split != split:
            yield f"{path}: {name}: document {document.id} is in {document.split}"
        for _, text in item["answers"]:
            if not text or text != text.strip():
                yield f"{path}: {name}: answer {text!r} is empty or has stray space"
    for article in json.loads(path.read_text("utf-8-sig"))["data"]:
        for qa in (qa for part in article["paragraphs"] for qa in part["qas"]):
            if qa.get("is_impossible") is not (not qa["answers"]):
                yield f"{path}: {qa['id']}: is_impossible contradicts the answers"


def _over_messages(folder: Path) -> Iterator[str]:
    path, messages = folder / "messages.jsonl", data.load_messages(folder)
    known = {
        "intent": (*INTENTS, OUT_OF_SCOPE),
        "severity": SEVERITIES,
        "split": SPLITS,
    }
    for message in messages:
        for key, values in known.items():
            if (value := getattr(message, key)) not in values:
                yield f"{path}: {message.id}: {key} {value!r} is unknown"
        if not message.text or message.text != message.text.strip():
            yield f"{path}: {message.id}: the text is empty or has space at its ends"
    for key in ("id", "text"):
        for value in _repeated(getattr(message, key) for message in messages):
            yield f"{path}: {key} {value!r} occurs twice"


# --- statistics ----------------------------------------------------------------------

COLUMNS = (*SPLITS, "all")
# The counts in the order of the table, each with the kinds that it is split into.
COUNTS = {
    "documents": KINDS,
    **dict.fromkeys(("noisy documents", "words", "tokens", "sentences"), ()),
    "mentions": TYPES,
    "relations": tuple(RELATIONS),
    "queries": QUERY_KINDS,
    "judgements": ("grade 2", "grade 1", "grade 0"),
    **dict.fromkeys(("questions", "unanswerable"), ()),
    "messages": SEVERITIES,
    "messages out of scope": (),
}
FILES = (
    *("*.jsonl", "*.csv", "retrieval/*.jsonl", "retrieval/qrels/*"),
    *("questions/*", "agreement/*"),
)


def statistics() -> dict[str, dict[str, float]]:
    """Sizes of every layer: `{row: {"train" | "dev" | "test" | "all": number}}`.

    Words are separated by white space; tokens are what the CoNLL export holds. A
    mention of dev or test is *seen* if train marks its surface form, casing ignored.
    """
    folder, amount = home() / "data", Counter()
    for row, kind, split, count in _amounts(folder):
        for name in {row, f"{row}: {kind}"}:
            amount[name, split] += count
            amount[name, "all"] += count

    def shares(part: str, whole: str, columns: Iterable[str]) -> dict[str, float]:
        return {c: round(amount[part, c] / amount[whole, c], 3) for c in columns}

    rows = [
        r for row, of in COUNTS.items() for r in (row, *(f"{row}: {k}" for k in of))
    ]
    table = {row: {column: amount[row, column] for column in COLUMNS} for row in rows}
    table["unanswerable, share"] = shares("unanswerable", "questions", COLUMNS)
    for of in ("", *(f": {kind}" for kind in TYPES)):
        seen = shares(f"seen{of}", f"mentions{of}", ("dev", "test"))
        table[f"mentions seen in training, share{of}"] = seen
    for first in sorted((folder / "agreement").glob("*-first.txt")):
        second = first.with_name(first.name.replace("first", "second"))
        for kind, f1 in agreement(first, second).items():
            row = f"agreement, {first.name.partition('-')[0]}"
            row += "" if kind == "all" else f": {kind}"
            table[row] = {"all": round(f1, 3)}
    size = sum(f.stat().st_size for pattern in FILES for f in folder.glob(pattern))
    return table | {"size on disk, kB": {"all": round(size / 1000)}}


def _amounts(folder: Path) -> Iterator[tuple[str, str | None, str, int]]:
    """Everything that is counted, as `(row, kind, split, count)`."""
    documents = data.load_documents(folder)
    trained = {f for d in documents if d.split == "train" for _, f in _forms(d)}
    for document in documents:
        split, sentences = document.split, data.to_sentences(document)
        yield "documents", document.kind, split, 1
        yield "noisy documents", None, split, document.noise
        yield "words", None, split, len(document.text.split())
        yield "tokens", None, split, sum(len(s.words) for s in sentences)
        yield "sentences", None, split, len(sentences)
        for kind, form in _forms(document):
            yield "mentions", kind, split, 1
            yield "seen", kind, split, form in trained
        for relation in document.relations:
            yield "relations", relation["type"], split, 1
    kinds = _query_kinds(folder / "retrieval")
    for split, judgements in data.read_beir(folder / "retrieval").judgements.items():
        for query, judged in judgements.items():
            yield "queries", kinds[query], split, 1
            for grade in judged.values():
                yield "judgements", f"grade {grade}", split, 1
    for split in SPLITS:
        for item in data.read_squad(folder / "questions" / f"{split}.json"):
            yield "questions", None, split, 1
            yield "unanswerable", None, split, not item["answers"]
    for message in data.load_messages(folder):
        yield "messages", message.severity, message.split, 1
        outside = message.intent == OUT_OF_SCOPE
        yield "messages out of scope", None, message.split, outside


def _forms(document: Document) -> list[tuple[str, str]]:
    """Type and lower-case surface form of each mention."""
    found = [(m["type"], m["start"], m["end"]) for m in document.entities]
    return [(kind, document.text[start:end].lower()) for kind, start, end in found]


def statistics_table() -> str:
    """`statistics()` as a markdown table; what is not counted stays blank."""
    rows = []
    for row, numbers in statistics().items():
        cells = [numbers.get(column, "") for column in COLUMNS]
        rows.append([row, *(f"{c:.3f}" if type(c) is float else c for c in cells)])
    return layout.table(["", *COLUMNS], rows, left=1)


# --- export --------------------------------------------------------------------------

EXPORTS = {
    "conll": [f"{split}.conll" for split in SPLITS],
    "beir": ["corpus.jsonl", "queries.jsonl", *(f"qrels/{s}.tsv" for s in SPLITS)],
    "squad": [f"{split}.json" for split in SPLITS],
}


def export(format: str, folder: Path, types: Iterable[str] | None = None) -> list[Path]:
    """Write one layer of the corpus in a format that other programs read.

    Args:
        format: `conll` writes `{train,dev,test}.conll` in IOB2, `beir` a BEIR folder,
            `squad` `{train,dev,test}.json`.
        folder: where to; made if it does not exist.
        types: keep only mentions of these types (`conll` alone).

    Returns:
        the files written.

    Raises:
        BadInput: an unknown format or type, types for a format without mentions, a
            folder that is a file or already holds such files.
    """
    folder, keep = Path(folder), None if types is None else set(types)
    if format not in EXPORTS:
        raise BadInput(f"format {format!r} is not one of {', '.join(EXPORTS)}")
    if keep is not None and format != "conll":
        raise BadInput(f"a {format} export holds no mentions: leave the types out")
    if unknown := (keep or set()) - set(TYPES):
        raise BadInput(f"type {min(unknown)!r} is not one of {', '.join(TYPES)}")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder}: this is a file; name a folder")
    files = [folder / name for name in EXPORTS[format]]
    for file in filter(Path.exists, files):
        raise BadInput(f"{file}: exists already; name another folder")
    files[-1].parent.mkdir(parents=True, exist_ok=True)
    if format == "conll":
        for split, file in zip(SPLITS, files, strict=True):
            data.write_conll(file, data.load_sentences(split, keep))
    else:
        source = home() / "data" / {"beir": "retrieval", "squad": "questions"}[format]
        for file in files:
            shutil.copyfile(source / file.relative_to(folder), file)
    return files
