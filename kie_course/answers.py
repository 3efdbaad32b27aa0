"""Answers to questions: a span of a text, or none. Taught in lesson 08."""

from __future__ import annotations

import re
import string
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from operator import itemgetter

import numpy as np
import torch

from kie_course import BadInput, models, training
from kie_course.heads import Example, Head, choose_threshold

WINDOW, OVERLAP, QUESTION, ANSWER = 256, 64, 64, 30
"""Word pieces: of a window, shared by two windows, of a question, of an answer."""


class Reader(Head):
    """Answers as spans of a text, or none: both ends chosen among the text's pieces.

    Items are what `data.read_squad` gives. A long context goes through overlapping
    windows; in a window without the answer both ends are `[CLS]`. Devlin et al. (2019);
    unanswerable questions: Rajpurkar, Jia and Liang (2018).
    """

    recipe = training.Settings(epochs=2)
    metric = "f1"
    text_of = itemgetter("context")

    @staticmethod
    def outputs_in(items: Sequence[dict]) -> list[str]:
        """Name the two logits of a piece."""
        return ["start", "end"]

    def encode(self, items: Sequence[dict]) -> list[Example]:
        """Lay each question before the windows of its context.

        Raises:
            BadInput: an empty question.
        """
        if any(not item["question"].strip() for item in items):
            raise BadInput("the question is empty; type a few words")
        contexts = list(dict.fromkeys(item["context"] for item in items))
        read = {
            context: row
            for context, *row in zip(contexts, *self.pieces(contexts), strict=True)
        }
        questions, _ = self.pieces([item["question"] for item in items])
        limit, examples = min(WINDOW, models.max_length(self.base_model)), []
        for i, (item, whole) in enumerate(zip(items, questions, strict=True)):
            question = whole[: min(QUESTION, limit // 4)]
            ids, offsets = read[item["context"]]
            first = len(question) + 2  # the first piece of the context
            room = limit - first - 1
            overlap = min(OVERLAP, room // 2)
            answer = answer_pieces(item["answers"], offsets)
            for start in range(0, max(1, len(ids) - overlap), room - overlap):
                end, target = min(start + room, len(ids)), (0, 0)
                if answer and start <= answer[0] and answer[1] < end:
                    target = (first + answer[0] - start, first + answer[1] - start)
                window = {"second": ids[start:end], "offsets": offsets[start:end]}
                cut = len(question) < len(whole)
                examples.append(self.example(question, target, cut, i, **window))
        return examples

    def states(self, hidden, input_ids, attention_mask) -> torch.Tensor:
        """Every state, (batch, piece, hidden)."""
        return hidden

    def allowed(self, logits, input_ids, token_type_ids) -> torch.Tensor:
        """Logits (batch, piece, end); minus infinity where no answer can be."""
        may = (token_type_ids == 1) & (input_ids != self.tokenizer.sep_token_id)
        may[:, 0] = True  # [CLS]: there is no answer here
        return logits.masked_fill(~may.unsqueeze(-1), -torch.inf)

    def spans(self, items: Sequence[dict], progress: bool = False) -> list[dict]:
        """The best span of each question, even where no answer is better.

        Returns:
            see `predict`; the margin is the sum of the span's two logits less that of
            `[CLS]`, in the window where this is lowest.
        """
        examples = self.encode(items)
        none, best = [np.inf] * len(items), [(-np.inf, 0, 0)] * len(items)
        rows = self.logits(examples, progress)
        for example, logits in zip(examples, rows, strict=True):
            i, n = example.item, len(example.offsets)
            none[i] = min(none[i], float(logits[0].sum()))
            if n:
                end = len(example) - 1
                starts, ends = logits[end - n : end].unbind(-1)  # (piece,) each
                fits = torch.ones(n, n, dtype=torch.bool).triu().tril(ANSWER - 1)
                sums = (starts[:, None] + ends).masked_fill(~fits, -torch.inf)
                a, b = divmod(int(sums.argmax()), n)
                span = float(sums[a, b]), example.offsets[a][0], example.offsets[b][1]
                best[i] = max(best[i], span)
        return [
            {
                "answer": item["context"][start:end],
                "start": start,
                "end": end,
                "margin": score - null,
            }
            for item, (score, start, end), null in zip(items, best, none, strict=True)
        ]

    def predict(self, items: Sequence[dict], progress: bool = False) -> list[dict]:
        """Answer questions: `{"answer", "start", "end", "margin"}`.

        Args:
            items: `{"question", "context"}`.
            progress: show a bar on standard error.

        Returns:
            `context[start:end]` is the answer, to the character, or `""` where the
            margin is not above the threshold: the context holds none.
        """
        none = {"answer": "", "start": 0, "end": 0}
        spans = self.spans([{"answers": [], **item} for item in items], progress)
        return [s if s["margin"] > self.threshold else s | none for s in spans]

    def score(self, items: Sequence[dict], calibrate: bool, progress: bool) -> dict:
        """See `answer_scores`."""
        gold = [[text for _, text in item["answers"]] for item in items]
        spans = self.spans(items, progress)
        answers, margins = ([s[k] for s in spans] for k in ("answer", "margin"))
        if calibrate:
            kept = [best_f1(g, answer) for g, answer in zip(gold, answers, strict=True)]
            self.threshold = choose_threshold(margins, kept, [not g for g in gold])
        given = zip(answers, margins, strict=True)
        return answer_scores(gold, [a if m > self.threshold else "" for a, m in given])


def answer_pieces(
    answers: Sequence[tuple[int, str]], offsets: Sequence[tuple[int, int]]
) -> tuple[int, int] | None:
    """First and last piece of the first answer; `None` where there is no answer.

    Args:
        answers: `(start character, text)`.
        offsets: characters `(start, end)` of the pieces of the context.
    """
    if not answers:
        return None
    start, text = answers[0]
    first = bisect_right([b for _, b in offsets], start)
    last = bisect_left([a for a, _ in offsets], start + len(text)) - 1
    return (first, last) if first <= last else None


# --- scores --------------------------------------------------------------------------


def normalise(answer: str) -> list[str]:
    """Words of an answer as SQuAD compares them.

    Lower case, without ASCII punctuation, then without articles.
    """
    bare = "".join(c for c in answer.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def token_f1(gold: str, predicted: str) -> float:
    """F1 of the words that two answers share; two empty ones agree."""
    one, other = Counter(normalise(gold)), Counter(normalise(predicted))
    if not one or not other:
        return float(one == other)
    return 2 * (one & other).total() / (one.total() + other.total())


def best_f1(gold: Sequence[str], predicted: str) -> float:
    """`token_f1` with the nearest right answer; where there is none, with `""`."""
    return max(token_f1(text, predicted) for text in gold or [""])


def answer_scores(gold: Sequence[Sequence[str]], predicted: Sequence[str]) -> dict:
    """Exact match and F1 as SQuAD v2 defines them.

    Args:
        gold: the right answers to each question; none: it is unanswerable.
        predicted: the answer given to each; `""`: none.

    Returns:
        `{"exact", "f1"}` over all questions, and the same of the `answerable` and the
        `unanswerable` ones where there are any. Rajpurkar, Jia and Liang (2018).
    """
    rows: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for answers, given in zip(gold, predicted, strict=True):
        # As in the official script, an answer of punctuation and articles is none.
        real = [text for text in answers if normalise(text)]
        exact = any(normalise(text) == normalise(given) for text in real or [""])
        rows[bool(answers)].append((float(exact), best_f1(real, given)))

    def means(of: list[tuple[float, float]]) -> dict[str, float]:
        return dict(zip(("exact", "f1"), np.mean(of, axis=0).tolist(), strict=True))

    kinds = {"answerable": rows[True], "unanswerable": rows[False]}
    parts = {name: means(of) for name, of in kinds.items() if of}
    return means(rows[True] + rows[False]) | parts
