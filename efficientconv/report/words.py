"""The words behind ``efficientconv report``, written as Hydra reads them."""

from __future__ import annotations

from collections.abc import Sequence

from efficientconv.tables.arguments import list_value, text_value


def hydra_words(words: Sequence[str]) -> list[str]:
    """Write directories, the words without ``=``, as one list, and other values as Hydra reads texts."""
    found: list[str] = []
    places: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            places.append(text_value(word))
        elif key == "group_by" and value != "null":
            found.append(f"{key}={list_value(value)}")
        elif key in ("save", "bench") and value != "null":
            found.append(f"{key}={text_value(value)}")
        else:
            found.append(word)
    return found + ([f"places=[{','.join(places)}]"] if places else [])
