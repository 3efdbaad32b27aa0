"""Relations of two mentions, and facts from raw text. Taught in lesson 08.

The tagger of lesson 06 finds the names; every pair that may be related is marked and
given to a classifier: `RelationClassifier`; then `pairs`, `extract`, `triple_scores`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise, permutations
from operator import attrgetter

import torch

from kie_course import BadInput, data, models, training
from kie_course.data import NO_RELATION, Document, MarkedPair
from kie_course.heads import Classifier, Example

MARKERS = ("[E1]", "[/E1]", "[E2]", "[/E2]")
"""New word pieces around the two mentions whose relation is asked for."""

REACH = 0
"""Sentences that two mentions may be apart for their relation to be asked for."""

Schema = Mapping[str, tuple[Sequence[str], Sequence[str]]]
"""Relation to the types that it leads from and to, such as `corpus.RELATIONS`."""


class RelationClassifier(Classifier):
    """Relations of two marked mentions, from the states of the two start markers.

    Items are `data.MarkedPair`. Baldini Soares et al. (2019), *Matching the Blanks*.
    """

    recipe = training.Settings(epochs=5)
    metric = "macro_f1"
    reads, markers = 2, MARKERS
    text_of, label_of = attrgetter("text"), attrgetter("label")

    def encode(self, items: Sequence[MarkedPair]) -> list[Example]:
        """Mark the mentions; of a text too long for the model the outer ends are cut.

        Of mentions too far apart for the model the middle between them is cut, too.

        Raises:
            BadInput: mentions that overlap, are empty, lie outside of their text, or
                are too long for the model.
        """
        rows, _ = self.pieces([part for pair in items for part in _parts(pair)])
        limit, examples = models.max_length(self.base_model) - 2, []
        for i, pair in enumerate(items):
            before, one, between, other, after = rows[5 * i : 5 * i + 5]
            marks = self.tokenizer.convert_tokens_to_ids(list(MARKERS))
            if pair.tail < pair.head:
                marks = marks[2:] + marks[:2]
            a, b, c, d = marks
            whole, most = len(between), limit - len(one) - len(other) - len(marks)
            if whole > most >= 0:
                between = [*between[: most // 2], *between[whole - most + most // 2 :]]
            inner = [a, *one, b, *between, c, *other, d]
            room = limit - len(inner)
            if room < 0:
                raise BadInput(
                    f"{pair.head} and {pair.tail} are too long for the model in "
                    f"{pair.text[:40]!r}…: give shorter mentions"
                )
            left = min(len(before), max(room // 2, room - len(after)))
            ids = [*before[len(before) - left :], *inner, *after[: room - left]]
            cut = len(between) < whole or len(before) + len(after) > room
            examples.append(self.example(ids, self.target(pair.label), cut, i))
        return examples

    def states(self, hidden, input_ids, attention_mask) -> torch.Tensor:
        """States of `[E1]` and `[E2]` side by side, (batch, 2 hidden)."""
        starts = self.tokenizer.convert_tokens_to_ids(list(MARKERS[::2]))
        places = [(input_ids == i).int().argmax(1) for i in starts]  # two of (batch,)
        rows = torch.arange(len(hidden), device=hidden.device)
        return torch.cat([hidden[rows, place] for place in places], dim=-1)

    def score(self, items: Sequence, calibrate: bool, progress: bool) -> dict:
        """See `relation_scores`; nothing is rejected: `NO_RELATION` is a class."""
        chosen = [label for label, _ in self.choose(items, progress)]
        return relation_scores([pair.label for pair in items], chosen)

    def probabilities(
        self, pairs: Sequence[MarkedPair], progress: bool = False
    ) -> torch.Tensor:
        """Probabilities of all relations in the order of `outputs`, (pair, class)."""
        rows = self.logits(self.encode(pairs), progress)
        return torch.stack(rows).softmax(-1) if rows else torch.empty(0, 0)


def _parts(pair: MarkedPair) -> list[str]:
    """Text before, in, between, in and after the two mentions, as they stand."""
    (a, b), (c, d) = sorted([pair.head, pair.tail])
    if not 0 <= a < b <= c < d <= len(pair.text):
        raise BadInput(
            f"{pair.head} and {pair.tail} are no two mentions in {pair.text[:40]!r}…: "
            "give (start, end) in characters, without overlap"
        )
    extents = pairwise((0, a, b, c, d, len(pair.text)))
    return [pair.text[start:end] for start, end in extents]


def precision_recall_f1(right: int, predicted: int, gold: int) -> dict[str, float]:
    """Precision, recall and F1 from counts; 0 where nothing is right."""
    return {
        "precision": right / predicted if right else 0.0,
        "recall": right / gold if right else 0.0,
        "f1": 2 * right / (predicted + gold) if right else 0.0,
    }


def relation_scores(gold: Sequence[str], predicted: Sequence[str]) -> dict:
    """Macro-F1 as SemEval-2010 task 8 defines it, and accuracy.

    The two directions of a relation, `R(e1,e2)` and `R(e2,e1)`, are one relation, but a
    prediction in the wrong direction is wrong. The mean is over the relations that
    occur, without `NO_RELATION`. Hendrickx et al. (2010).

    Returns:
        `{"macro_f1", "accuracy", "per_type": {relation: {"precision", …}}}`.
    """

    def count(labels: Iterable[str]) -> Counter:
        return Counter(label.partition("(")[0] for label in labels)

    hits = [g for g, p in zip(gold, predicted, strict=True) if g == p]
    right, said, there = count(hits), count(predicted), count(gold)
    per_type = {
        name: precision_recall_f1(right[name], said[name], there[name])
        for name in sorted({*there, *said} - {NO_RELATION})
    }
    f1 = [row["f1"] for row in per_type.values()]
    return {
        "macro_f1": sum(f1) / max(1, len(f1)),
        "accuracy": len(hits) / max(1, len(gold)),
        "per_type": per_type,
    }


# --- facts from raw text -------------------------------------------------------------


def candidates(
    text: str, entities: Sequence[dict], schema: Schema, relations: Sequence[dict] = ()
) -> list[tuple[dict, dict, MarkedPair]]:
    """Every ordered pair of mentions that stand together and may be related.

    Args:
        text: a whole document.
        entities: its mentions, `{"start", "end", "type"}`, with an `id` where there
            are `relations`.
        schema: what may be related to what.
        relations: `{"type", "head", "tail"}` with ids, for the labels; of two relations
            of one pair the first counts.

    Returns:
        `(head, tail, pair)`; the pair's text is the sentences that hold the mentions
        and those between, at most `REACH` apart.
    """
    labels = {(r["head"], r["tail"]): r["type"] for r in reversed(relations)}
    extents = data.sentences(text)
    starts, found = [start for start, _ in extents], []
    for head, tail in permutations(entities, 2):
        near, far = sorted(bisect_right(starts, e["start"]) - 1 for e in (head, tail))
        if far - near <= REACH and _possible(head, tail, schema):
            start = extents[near][0]
            end = max(extents[far][1], head["end"], tail["end"])
            one, other = ((e["start"] - start, e["end"] - start) for e in (head, tail))
            label = labels.get((head.get("id"), tail.get("id")), NO_RELATION)
            pair = MarkedPair(text[start:end], one, other, label)
            found.append((head, tail, pair))
    return found


def pairs(documents: Iterable[Document], schema: Schema) -> list[MarkedPair]:
    """All candidates of annotated documents, labelled: what a classifier learns."""
    return [
        pair
        for d in documents
        for *_, pair in candidates(d.text, d.entities, schema, d.relations)
    ]


def _possible(head: dict, tail: dict, schema: Schema) -> list[str]:
    return [
        name
        for name, (one, other) in schema.items()
        if head["type"] in one and tail["type"] in other
    ]


def extract(
    classifier: RelationClassifier,
    results: Sequence[dict],
    schema: Schema,
    progress: bool = False,
) -> list[dict]:
    """Typed triples from raw text, given the names that a tagger found in it.

    Args:
        classifier: trained on pairs of the same relations.
        results: what `ner.predict` gives: `{"text", "entities"}`.
        schema: what may be related to what.
        progress: show a bar on standard error.

    Returns:
        the results, each with `"relations": [{"type", "head", "tail",
        "probability"}]`; head and tail are two of its entities, of types that the
        relation allows.
    """
    found = [{**result, "relations": []} for result in results]
    asked = [
        (result, *candidate)
        for result in found
        for candidate in candidates(result["text"], result["entities"], schema)
    ]
    names = classifier.outputs
    rows = classifier.probabilities([pair for *_, pair in asked], progress)
    for (result, head, tail, _), row in zip(asked, rows, strict=True):
        allowed = {NO_RELATION, *_possible(head, tail, schema)}
        chances = {n: float(p) for n, p in zip(names, row, strict=True) if n in allowed}
        kind = max(chances, key=chances.__getitem__, default=NO_RELATION)
        if kind != NO_RELATION:
            triple = {"type": kind, "head": head, "tail": tail}
            result["relations"].append(triple | {"probability": chances[kind]})
    return found


def triple_scores(documents: Sequence[Document], results: Sequence[dict]) -> dict:
    """Score triples strictly: relation, both spans and both types must be right.

    Args:
        documents: annotated.
        results: what `extract` found in their texts, in the same order.

    Returns:
        `{"precision", "recall", "f1"}` over all triples; those out of reach are missed.
    """

    def facts(number: int, relations: Iterable[dict], mention: Callable) -> set:
        return {
            (number, r["type"], *(mention(r[e])[k] for e in ends for k in keys))
            for r in relations
        }

    ends, keys = ("head", "tail"), ("start", "end", "type")
    gold, found = set(), set()
    for number, (document, result) in enumerate(zip(documents, results, strict=True)):
        by_id = {mention["id"]: mention for mention in document.entities}
        gold |= facts(number, document.relations, by_id.__getitem__)
        found |= facts(number, result["relations"], lambda mention: mention)
    return precision_recall_f1(len(gold & found), len(found), len(gold))
