"""The corpus, and readers of the formats that others publish their data in.

Taught in lessons 00, 06, 07 and 08. Readers lose nothing silently: what cannot be read
raises `BadInput` with file, line and remedy.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from kie_course import BadInput

SPLITS = ("train", "dev", "test")
OUT_OF_SCOPE = "out_of_scope"  # the label of a text that no class covers
NO_RELATION = "Other"  # the label of a pair that no relation joins (SemEval's name)

# A word: a number with its separators and unit, a run of letters with an inner
# apostrophe, a possessive 's of its own, or any other single visible character.
WORD = re.compile(
    r"\d+(?:[.,]\d+)*\w*|['’]s\b|\w+(?:['’](?!s\b)\w+)*|[^\w\s]", re.UNICODE
)
# A sentence ends at .!? (with closing quotes) before a capital or a digit, or at a
# blank line; a lone capital or a short title before the stop does not end one.
SENTENCE_END = re.compile(
    r"(?<!\b[A-Z])(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bSt)(?<!\bProf)(?<!\bNo)"
    r"[.!?]+[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[A-Z0-9])|\n\s*\n\s*"
)


@dataclass(frozen=True)
class Sentence:
    """Words and their IOB2 labels, one label per word."""

    words: list[str]
    labels: list[str]


@dataclass(frozen=True)
class Document:
    """One document of the course's corpus; offsets are characters into `text`."""

    id: str
    kind: str
    title: str
    date: str
    split: str
    text: str
    entities: list[dict]
    relations: list[dict] = field(default_factory=list)
    topic: str | None = None
    sentiment: str | None = None
    noise: bool = False


@dataclass(frozen=True)
class Message:
    """What a customer wrote, its intent, and how bad a complaint it is."""

    id: str
    text: str
    intent: str
    severity: str
    split: str


@dataclass(frozen=True)
class MarkedPair:
    """Two mentions in a text, as `(start, end)` characters, and their relation.

    The head need not stand first; no relation is `NO_RELATION`.
    """

    text: str
    head: tuple[int, int]
    tail: tuple[int, int]
    label: str = NO_RELATION


@dataclass(frozen=True)
class Beir:
    """A retrieval collection in BEIR's layout.

    `documents` and `queries` map an id to its text, `judgements[split]` maps a query
    id to `{document id: grade}`; a grade of 0 says: looked at, not relevant.
    """

    documents: dict[str, str]
    queries: dict[str, str]
    judgements: dict[str, dict[str, dict[str, int]]]


def home() -> Path:
    """The folder that holds `data/` and `notebooks/`, in a clone or once installed."""
    package = Path(__file__).resolve().parent
    for folder in (package.parent, package / "share"):
        if (folder / "data" / "documents.jsonl").is_file():
            return folder
    raise BadInput("the course's data is missing: install the package again")


# --- reading text without losing any ------------------------------------------------


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield `(line number, line)` of a UTF-8 file, line ends removed.

    Raises:
        BadInput: no such file, not UTF-8 (with the line), or nothing in it.
    """
    path, blank = Path(path), True
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            blank = blank and raw.isspace()
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise BadInput(
                    f"{path}:{number}: not UTF-8 text; convert the file to UTF-8 first"
                ) from error
            yield number, line.rstrip("\r\n")
    if blank:
        raise BadInput(f"{path}: the file is empty")


def read_jsonl(path: str | Path, *required: str) -> Iterator[tuple[int, dict]]:
    """Yield `(line number, object)` of a JSON-lines file; blank lines are skipped.

    Raises:
        BadInput: a line is no JSON object or lacks a required key.
    """
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"{path}:{number}: not JSON ({error.msg})") from error
        if re.search(r"\\u[dD][89a-fA-F]", line) and not _encodable(item):
            raise BadInput(f"{path}:{number}: half a character (an unpaired \\ud8…)")
        missing = [
            key for key in required if not isinstance(item, dict) or key not in item
        ]
        if missing:
            raise BadInput(f"{path}:{number}: no {missing[0]!r} in this object")
        yield number, item


def _encodable(item: object) -> bool:
    """Whether UTF-8 can write it: JSON allows half a surrogate pair, no model does."""
    try:
        json.dumps(item, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


# --- names in text: CoNLL columns ---------------------------------------------------


def read_conll(path: str | Path, types: Iterable[str] | None = None) -> list[Sentence]:
    """Read a CoNLL file (token first, tag last, blank line between sentences) as IOB2.

    The scheme (IOB1, IOB2 or IOBES) is recognised for the file as a whole. Columns are
    split at tabs and ASCII spaces only; `-DOCSTART-` lines are ignored.

    Args:
        path: the file.
        types: keep only mentions of these types; the others become `O`.

    Raises:
        BadInput: a line without a tag, a tag that is neither `O` nor PREFIX-TYPE, a
            file that mixes schemes, an empty file, a wrong encoding or line end.
    """
    rows: list[tuple[int, str, str]] = []
    sentences: list[list[tuple[int, str, str]]] = [rows]
    for number, line in read_lines(path):
        if "\r" in line:
            raise BadInput(
                f"{path}:{number}: a line ends in CR alone; convert it to LF"
            )
        columns = re.split("[ \t]+", line.strip(" \t")) if line.strip() else []
        if not columns or columns[0] == "-DOCSTART-":
            if rows:
                rows = []
                sentences.append(rows)
            continue
        if len(columns) < 2:
            raise BadInput(
                f"{path}:{number}: {columns[0]!r} has no tag; "
                "write token and tag, separated by a tab"
            )
        if not re.fullmatch(r"O|[BIES]-\S+", columns[-1]):
            raise BadInput(
                f"{path}:{number}: tag {columns[-1]!r} is neither O nor PREFIX-TYPE "
                "such as B-PER"
            )
        rows.append((number, columns[0], columns[-1]))
    sentences = [rows for rows in sentences if rows]
    if not sentences:
        raise BadInput(f"{path}: no sentence in this file")
    scheme = _scheme(path, sentences)
    read = [_sentence(path, rows, scheme) for rows in sentences]
    return read if types is None else keep_types(read, types)


def _scheme(path, sentences) -> str:
    """Name the scheme of a file: IOBES, IOB1 (an I- opens a mention), else IOB2."""
    opens_with_b = opens_with_i = None
    for rows in sentences:
        previous = "O"
        for number, _, tag in rows:
            if tag[0] in "ES":
                return "IOBES"
            same = previous != "O" and tag != "O" and previous[2:] == tag[2:]
            if tag[0] == "I" and not same:
                opens_with_i = opens_with_i or number
            if tag[0] == "B" and not same:
                opens_with_b = opens_with_b or number
            previous = tag
    if opens_with_i and opens_with_b:
        raise BadInput(
            f"{path}: mixes IOB1 (line {opens_with_i}) and IOB2 (line {opens_with_b}); "
            "write every first word of a mention as B-"
        )
    return "IOB1" if opens_with_i else "IOB2"


def _sentence(path, rows, scheme: str) -> Sentence:
    labels, previous = [], "O"
    for position, (number, _, tag) in enumerate(rows):
        inside = previous[0] in "BI" and previous[2:] == tag[2:]
        if scheme == "IOBES":
            following = rows[position + 1][2] if position + 1 < len(rows) else "O"
            goes_on = following[0] in "IE" and following[2:] == tag[2:]
            broken = (tag[0] in "IE" and not inside) or (tag[0] in "BI" and not goes_on)
            if broken:
                raise BadInput(
                    f"{path}:{number}: tag {tag!r} does not fit its neighbours in "
                    "IOBES, which this file's E- and S- tags announce"
                )
        label = tag
        if tag != "O":
            first = tag[0] in "BS" or (scheme == "IOB1" and not inside)
            label = ("B" if first else "I") + tag[1:]
        labels.append(label)
        previous = tag
    return Sentence([word for _, word, _ in rows], labels)


def keep_types(sentences: Iterable[Sentence], types: Iterable[str]) -> list[Sentence]:
    """Let mentions of other types become `O`."""
    keep = set(types)
    return [
        Sentence(s.words, [label if label[2:] in keep else "O" for label in s.labels])
        for s in sentences
    ]


def types_in(sentences: Iterable[Sentence]) -> set[str]:
    """The types of all mentions."""
    return {label[2:] for s in sentences for label in s.labels if label != "O"}


def write_conll(path: str | Path, sentences: Iterable[Sentence]) -> None:
    """Write sentences as CoNLL: word, tab, IOB2 label; a blank line after each."""
    with Path(path).open("w", encoding="utf-8") as file:
        for sentence in sentences:
            for word, label in zip(sentence.words, sentence.labels, strict=True):
                file.write(f"{word}\t{label}\n")
            file.write("\n")


def spans(labels: Sequence[str]) -> list[tuple[int, int, str]]:
    """Mentions of an IOB2 sequence as `(first word, one past the last, type)`.

    Strict: a mention begins at `B-`; an `I-` that continues nothing is no mention.
    Taught in lesson 06.
    """
    found: list[tuple[int, int, str]] = []
    for position, label in enumerate(labels):
        if label[0] == "B":
            found.append((position, position + 1, label[2:]))
        elif label[0] == "I" and found and found[-1][1:] == (position, label[2:]):
            start, end, kind = found[-1]
            found[-1] = (start, end + 1, kind)
    return found


# --- the course's own corpus ---------------------------------------------------------


def words(text: str) -> list[tuple[int, int]]:
    """Character offsets `(start, end)` of the words of a text."""
    return [match.span() for match in WORD.finditer(text)]


def sentences(text: str) -> list[tuple[int, int]]:
    """Character offsets `(start, end)` of the sentences of a text."""
    starts, ends = [0], []
    for match in SENTENCE_END.finditer(text):
        ends.append(match.start() + len(match[0].rstrip()))
        starts.append(match.end())
    ends.append(len(text.rstrip()))
    return [(a, b) for a, b in zip(starts, ends, strict=True) if text[a:b].strip()]


def load_documents(folder: str | Path | None = None) -> list[Document]:
    """The course's annotated documents, in file order.

    Args:
        folder: the folder of `documents.jsonl`; by default the course's own `data/`.

    Raises:
        BadInput: a line that is no document, or an id that occurs twice.
    """
    path = Path(folder or home() / "data") / "documents.jsonl"
    required = ("id", "kind", "title", "date", "split", "text", "entities")
    documents: dict[str, Document] = {}
    for number, item in read_jsonl(path, *required):
        if item["id"] in documents:
            raise BadInput(f"{path}:{number}: document id {item['id']!r} occurs twice")
        try:
            documents[item["id"]] = Document(**item)
        except TypeError as error:
            raise BadInput(f"{path}:{number}: unknown key in this document") from error
    return list(documents.values())


def load_messages(folder: str | Path | None = None) -> list[Message]:
    """Read the customers' messages, `messages.jsonl`.

    Args:
        folder: where it is; by default the course's own `data/`.

    Raises:
        BadInput: no such file, or a line that is no message.
    """
    path = Path(folder or home() / "data") / "messages.jsonl"
    keys = [field.name for field in fields(Message)]
    return [
        Message(**{key: item[key] for key in keys})
        for _, item in read_jsonl(path, *keys)
    ]


def load_values(folder: str | Path | None = None) -> dict[str, str]:
    """Read the normalised value of every MONEY form of the documents, `values.csv`.

    Returns:
        form to value, such as `{"£1.9m": "GBP 1900000"}`; a range has two amounts, as
        in `? 3000000-5000000`; `?` stands for a currency that the form does not tell.

    Raises:
        BadInput: no such file, or other columns.
    """
    path = Path(folder or home() / "data") / "values.csv"
    if not path.is_file():
        raise BadInput(f"{path} does not exist")
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames != ["form", "currency", "amount", "to"]:
            raise BadInput(f"{path} has the columns {rows.fieldnames}")
        return {
            row["form"]: f"{row['currency']} "
            + "-".join(filter(None, (row["amount"], row["to"])))
            for row in rows
        }


def to_sentences(
    document: Document, types: Iterable[str] | None = None
) -> list[Sentence]:
    """Cut an annotated document into sentences of words with IOB2 labels.

    Args:
        document: text with character-offset mentions.
        types: keep only mentions of these types; the others become `O`.

    Raises:
        BadInput: a mention that does not begin and end with a word of one sentence.
    """
    keep = None if types is None else set(types)
    mentions = [e for e in document.entities if keep is None or e["type"] in keep]
    found, result = 0, []
    for start, end in sentences(document.text):
        tokens = [(start + a, start + b) for a, b in words(document.text[start:end])]
        first = {a: i for i, (a, _) in enumerate(tokens)}
        last = {b: i for i, (_, b) in enumerate(tokens)}
        labels = ["O"] * len(tokens)
        for mention in mentions:
            if mention["start"] in first and mention["end"] in last:
                begin, until = first[mention["start"]], last[mention["end"]]
                inside = ["I-" + mention["type"]] * (until - begin)
                labels[begin : until + 1] = ["B-" + mention["type"], *inside]
                found += 1
        result.append(Sentence([document.text[a:b] for a, b in tokens], labels))
    if found != len(mentions):
        raise BadInput(
            f"document {document.id}: {len(mentions) - found} mentions do not begin "
            "and end with a word inside one sentence"
        )
    return result


def load_sentences(split: str, types: Iterable[str] | None = None) -> list[Sentence]:
    """Sentences of one split (`train`, `dev`, `test`) of the course's corpus."""
    chosen = [d for d in load_documents() if d.split == split]
    return [sentence for d in chosen for sentence in to_sentences(d, types)]


# --- retrieval: BEIR folders ---------------------------------------------------------


def read_beir(folder: str | Path) -> Beir:
    """Read `corpus.jsonl`, `queries.jsonl` and `qrels/{train,dev,test}.tsv`.

    A document's text is its title, a line break, and its text. Legal: empty documents,
    queries that nobody judged, grade 0.

    Raises:
        BadInput: a missing file, a duplicate id, an empty question, a judgement of a
            query or document that does not exist, a grade that is no whole number.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; name a BEIR folder")
    documents = dict(read_documents(folder / "corpus.jsonl"))
    queries = dict(read_documents(folder / "queries.jsonl"))
    for query, text in queries.items():
        if not text.strip():
            raise BadInput(f"{folder / 'queries.jsonl'}: query {query!r} is empty")
    judgements = {
        split: _read_qrels(folder / "qrels" / f"{split}.tsv", queries, documents)
        for split in SPLITS
        if (folder / "qrels" / f"{split}.tsv").exists()
    }
    if not judgements:
        raise BadInput(f"{folder / 'qrels'}: no train.tsv, dev.tsv or test.tsv")
    return Beir(documents, queries, judgements)


def read_documents(path: str | Path) -> Iterator[tuple[str, str]]:
    """Yield `(id, text)` of a BEIR folder's `corpus.jsonl` or `queries.jsonl`.

    The text is title, line break, text, as in `read_beir`.

    Raises:
        BadInput: a line that is no document, or an id that occurs twice.
    """
    seen: set[str] = set()
    for number, item in read_jsonl(path, "_id", "text"):
        wrong = [k for k in ("_id", "text") if not isinstance(item[k], str)]
        if wrong:
            raise BadInput(f"{path}:{number}: {wrong[0]!r} is no text in quotes")
        if item["_id"] in seen:
            raise BadInput(f"{path}:{number}: id {item['_id']!r} occurs twice")
        seen.add(item["_id"])
        yield item["_id"], f"{item.get('title') or ''}\n{item['text']}".strip()


def _read_qrels(
    path: Path, queries: dict, documents: dict
) -> dict[str, dict[str, int]]:
    judged: dict[str, dict[str, int]] = {}
    for number, line in read_lines(path):
        columns = line.split("\t")
        if not line.strip() or (number == 1 and columns[0] == "query-id"):
            continue
        if len(columns) != 3 or not re.fullmatch(r"-?\d+", columns[2].strip()):
            raise BadInput(
                f"{path}:{number}: write query id, document id and a whole-number "
                "grade, separated by tabs"
            )
        query, document, grade = columns[0], columns[1], int(columns[2])
        if query not in queries:
            raise BadInput(f"{path}:{number}: query {query!r} is not in queries.jsonl")
        if document not in documents:
            raise BadInput(
                f"{path}:{number}: document {document!r} is not in corpus.jsonl"
            )
        if document in judged.setdefault(query, {}):
            raise BadInput(f"{path}:{number}: {query!r} and {document!r} judged twice")
        judged[query][document] = grade
    if not judged:
        raise BadInput(f"{path}: no judgement in this file")
    return judged


def answered(
    judgements: Mapping[str, Mapping[str, int]],
) -> dict[str, Mapping[str, int]]:
    """Judgements of the queries that have an answer: a document graded above 0."""
    return {
        query: grades
        for query, grades in judgements.items()
        if any(grade > 0 for grade in grades.values())
    }


def load_retrieval() -> Beir:
    """The course's own help centre: articles, customers' questions, judgements."""
    return read_beir(home() / "data" / "retrieval")


# --- other published formats ---------------------------------------------------------


def read_labelled_csv(path: str | Path) -> list[tuple[str, str]]:
    """Read a CSV file with the columns `text,category` as `(text, label)` pairs.

    Raises:
        BadInput: other columns, a row that lacks one or has too many, a quote that is
            not closed, an empty file.
    """
    lines = [line + "\n" for _, line in read_lines(path)]
    reader = csv.DictReader(lines, strict=True)
    if not {"text", "category"} <= set(reader.fieldnames or ()):
        raise BadInput(f"{path}:1: the first line must name the columns text,category")
    pairs = []
    try:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row:
                raise BadInput(f"{where}: too many columns; quote a text with a comma")
            if not row["text"] or not row["category"]:
                raise BadInput(f"{where}: a row without text or category")
            pairs.append((row["text"], row["category"]))
    except csv.Error as error:
        raise BadInput(
            f"{path}:{reader.reader.line_num}: {error}; is a quote left open above?"
        ) from error
    return pairs


def read_squad(path: str | Path) -> list[dict]:
    """Read SQuAD JSON (v1.1 or v2) as a flat list of questions.

    Returns:
        dictionaries `id, title, context, question, answers`, the answers a list of
        `(start character, text)`, empty where the context holds no answer.

    Raises:
        BadInput: no SQuAD JSON, an answer that is empty or is not in its context where
            it says, an empty question, an id that occurs twice.
    """
    body = "\n".join(line for _, line in read_lines(path))
    try:
        questions = [
            {
                "id": qa["id"],
                "title": article.get("title", ""),
                "context": paragraph["context"],
                "question": qa["question"],
                "answers": [(a["answer_start"], a["text"]) for a in qa["answers"]],
            }
            for article in json.loads(body)["data"]
            for paragraph in article["paragraphs"]
            for qa in paragraph["qas"]
        ]
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: not SQuAD JSON ({error})") from error
    seen = set()
    for item in questions:
        if item["id"] in seen:
            raise BadInput(f"{path}: question id {item['id']!r} occurs twice")
        seen.add(item["id"])
        if not str(item["question"] or "").strip():
            raise BadInput(f"{path}: question {item['id']!r} is empty")
        if not isinstance(item["context"], str):
            raise BadInput(
                f"{path}: the context of {item['id']!r} is no text in quotes"
            )
        for start, text in item["answers"]:
            if type(start) is not int or start < 0 or type(text) is not str or not text:
                raise BadInput(
                    f"{path}: an answer of question {item['id']!r} needs a number from "
                    "0 and a text; give a question without an answer an empty list"
                )
            if item["context"][start : start + len(text)] != text:
                raise BadInput(
                    f"{path}: answer {text!r} of question {item['id']!r} does not "
                    f"stand at character {start} of its context"
                )
    return questions


def read_clinc(path: str | Path) -> dict[str, list[tuple[str, str]]]:
    """Read CLINC150's JSON as `{"train" | "dev" | "test": [(text, intent), …]}`.

    The lists `val` and `oos_…` of the file join their splits, the latter labelled
    `OUT_OF_SCOPE`. Larson et al. (2019).

    Raises:
        BadInput: no such JSON, a list that is missing or empty, an empty text.
    """
    try:
        lists = json.loads("\n".join(line for _, line in read_lines(path)))
        splits = {
            split: [(text, intent) for text, intent in lists[own]]
            + [(text, OUT_OF_SCOPE) for text, _ in lists[f"oos_{own}"]]
            for split, own in zip(SPLITS, ("train", "val", "test"), strict=True)
        }
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: not CLINC150's JSON ({error!r})") from error
    for split, pairs in splits.items():
        if not pairs:
            raise BadInput(f"{path}: the list for {split} is empty")
        if not all(isinstance(text, str) and text.strip() for text, _ in pairs):
            raise BadInput(f"{path}: a text for {split} is empty, or no text in quotes")
    return splits


MARKED = re.compile(r'\d+\t"?(.*)<e1>(.+)</e1>(.*)<e2>(.+)</e2>(.*?)"?\s*')
SEMEVAL_LABEL = re.compile(rf"{NO_RELATION}|[\w-]+\((e1,e2|e2,e1)\)")


def read_semeval(path: str | Path) -> list[MarkedPair]:
    """Read the relations of SemEval-2010 task 8; head is `e1`, tail is `e2`.

    A label names the direction, as in `Cause-Effect(e2,e1)`; comments are skipped.
    Hendrickx et al. (2010).

    Raises:
        BadInput: a line that is no marked sentence, a sentence without its label, none.
    """
    pairs, parts, number = [], None, 0
    for number, line in read_lines(path):
        if parts is not None:
            if not SEMEVAL_LABEL.fullmatch(line.strip()):
                raise BadInput(
                    f"{path}:{number}: {line.strip()!r} is no label; write "
                    "Other, or a relation such as Cause-Effect(e1,e2)"
                )
            before, head, between, tail, _ = parts
            start = len(before) + len(head) + len(between)
            text, first = "".join(parts), (len(before), len(before) + len(head))
            pairs.append(
                MarkedPair(text, first, (start, start + len(tail)), line.strip())
            )
            parts = None
        elif line.strip() and not line.startswith("Comment"):
            if not (match := MARKED.fullmatch(line)):
                raise BadInput(
                    f"{path}:{number}: write a number, a tab, and the sentence with "
                    "<e1>…</e1> before <e2>…</e2>"
                )
            parts = match.groups()
    if parts is not None:
        raise BadInput(f"{path}:{number}: this sentence's label is missing")
    if not pairs:
        raise BadInput(f"{path}: no sentence in this file")
    return pairs
