"""From the scores of tokens to entities: what each token is, which tokens make a word, which words an entity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..words import Words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AggregationStrategy", "Token", "entities_of", "without_overlaps"]

Entity = dict[str, Any]
Join = Callable[[list[str]], str]


class AggregationStrategy(Words):
    """What is said of tokens: nothing together (none), neighbours of one label together (simple), and that too, but with one
    label for all tokens of a word: that of its first token, of their mean scores, of the token with the highest score."""

    NONE = "none"
    SIMPLE = "simple"
    FIRST = "first"
    AVERAGE = "average"
    MAX = "max"


BY_WORDS = (AggregationStrategy.FIRST, AggregationStrategy.AVERAGE, AggregationStrategy.MAX)


class Token(NamedTuple):
    """A token that is not special. `place` is its index in the row, start and end are characters of the text, scores (labels,)."""

    word: str
    scores: NDArray[np.float32]
    start: int
    end: int
    place: int
    is_subword: bool = False


def entities_of(
    tokens: Sequence[Token], strategy: AggregationStrategy, labels: Mapping[int, str], join: Join
) -> list[Entity]:
    """The tokens as entities, all labels included. `join` makes a text of tokens."""
    if strategy in BY_WORDS:
        return _grouped([_word(word, strategy, labels, join) for word in _words(tokens)], join)
    entities = [
        _labelled(token.scores, labels)
        | {"index": token.place, "word": token.word, "start": token.start, "end": token.end}
        for token in tokens
    ]
    return entities if strategy is AggregationStrategy.NONE else _grouped(entities, join)


def without_overlaps(entities: Iterable[Entity]) -> list[Entity]:
    """By their start; of entities that overlap one after the other the longest stays, of equally long ones the best."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda entity: entity["start"]):
        last = kept[-1] if kept else None
        if last is None or not last["start"] <= entity["start"] < last["end"]:
            kept.append(entity)
        elif _weight(entity) > _weight(last):
            kept[-1] = entity
    return kept


def _weight(entity: Entity) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]


def _labelled(scores: NDArray[np.float32], labels: Mapping[int, str]) -> Entity:
    best = int(scores.argmax())
    return {"entity": labels[best], "score": float(scores[best])}


def _words(tokens: Sequence[Token]) -> list[list[Token]]:
    words: list[list[Token]] = []
    for token in tokens:
        if words and token.is_subword:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _word(tokens: list[Token], strategy: AggregationStrategy, labels: Mapping[int, str], join: Join) -> Entity:
    import numpy as np

    if strategy is AggregationStrategy.FIRST:
        scores = tokens[0].scores
    elif strategy is AggregationStrategy.MAX:
        scores = max(tokens, key=lambda token: token.scores.max()).scores
    else:
        scores = np.nanmean(np.stack([token.scores for token in tokens]), axis=0)
    text = join([token.word for token in tokens])
    return _labelled(scores, labels) | {"word": text, "start": tokens[0].start, "end": tokens[-1].end}


def _grouped(entities: list[Entity], join: Join) -> list[Entity]:
    """Neighbours of one label as one; "B-" begins another, "I-" and labels without either go on."""
    groups: list[list[Entity]] = []
    for entity in entities:
        begins, tag = _tag(entity["entity"])
        if groups and not begins and tag == _tag(groups[-1][-1]["entity"])[1]:
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return [_group(group, join) for group in groups]


def _group(entities: list[Entity], join: Join) -> Entity:
    import numpy as np

    return {
        "entity_group": entities[0]["entity"].split("-", 1)[-1],
        "score": float(np.nanmean(np.array([entity["score"] for entity in entities], np.float32))),
        "word": join([entity["word"] for entity in entities]),
        "start": entities[0]["start"],
        "end": entities[-1]["end"],
    }


def _tag(label: str) -> tuple[bool, str]:
    """Whether it says that it begins an entity, and of what kind this is."""
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label
