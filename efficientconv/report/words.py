"""The words behind ``efficientconv report``, written as Hydra reads them."""

from __future__ import annotations

from collections.abc import Sequence

from efficientconv.errors import UserError
from efficientconv.tables.arguments import FLAGS_WITH_VALUE, list_value, text_value


def hydra_words(words: Sequence[str]) -> list[str]:
    """Write directories, the words without ``=``, as one list, and other values so that Hydra reads them as they are.

    Raises:
        UserError: Hydra's flag for several jobs.
    """
    found: list[str] = []
    places: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        key, equals, value = word.partition("=")
        if word == "-m" or (len(word) > 2 and "--multirun".startswith(word)):
            raise UserError(f"{word}: efficientconv report is one job; it takes several directories")
        if word.startswith("-") or before in FLAGS_WITH_VALUE:
            found.append(word)
        elif not equals:
            places.append(text_value(word))
        elif key == "group_by" and value != "null":
            found.append(f"{key}={list_value(value)}")
        elif key == "save" and value != "null":
            found.append(f"{key}={text_value(value)}")
        else:
            found.append(word)
    return found + ([f"places=[{','.join(places)}]"] if places else [])
