"""From the words of a command line to overrides of Hydra's grammar: leading words without ``=`` are a key's value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile


def plain_words(words: Sequence[str]) -> list[str]:
    """Return the words as they are."""
    return list(words)


def first_words(*keys: str) -> Callable[[Sequence[str]], list[str]]:
    """Let first words without ``=`` stand for ``key=word``: ``sweep status`` → ``action=status``.

    Args:
        keys: of the first word, the second, and so on.
    """

    def words_of(words: Sequence[str]) -> list[str]:
        bare = list(takewhile(lambda word: "=" not in word, words))[: len(keys)]
        told = [f"{key}={quoted(word)}" for key, word in zip(keys, bare, strict=False)]
        return [*told, *words[len(bare) :]]

    return words_of


def leading_words(key: str) -> Callable[[Sequence[str]], list[str]]:
    """Let words without ``=`` be the list ``key``: ``report one two`` → ``runs=["one","two"]``."""

    def words_of(words: Sequence[str]) -> list[str]:
        found = [quoted(word) for word in words if "=" not in word]
        own = [word for word in words if "=" in word]
        return [*own, f"{key}=[{','.join(found)}]"] if found else own

    return words_of


def data_additions(words: Sequence[str]) -> list[str]:
    """Make a key of the data an addition: the run's own data is the default, which is an empty group here."""
    return [f"++{word}" if word.startswith("data.") else word for word in words]


def list_of_paths(key: str) -> Callable[[Sequence[str]], list[str]]:
    """Let the value of ``key`` be paths with commas between them: ``run=a,b`` → ``run=["a","b"]``."""

    def words_of(words: Sequence[str]) -> list[str]:
        from efficientconv.tables.arguments import list_value

        prefix = f"{key}="
        return [prefix + list_value(word[len(prefix) :]) if word.startswith(prefix) else word for word in words]

    return words_of


def bench_words(words: Sequence[str]) -> list[str]:
    """Take the action and files of words without ``=``, and compose each convolution by itself."""
    from efficientconv.bench.words import hydra_words

    return hydra_words(words)


def report_words(words: Sequence[str]) -> list[str]:
    """Gather the directories, and write lists and paths so that Hydra reads them as they are."""
    from efficientconv.report.words import hydra_words

    return hydra_words(words)


def tables_words(words: Sequence[str]) -> list[str]:
    """Keep the words that are for training as a list in ``training``."""
    from efficientconv.tables.arguments import split_arguments

    own, training = split_arguments(words)
    return [*own, f"training=[{','.join(map(quoted, training))}]"]


def quoted(text: str) -> str:
    """Write a text so that Hydra reads it as it is."""
    from efficientconv.tables.arguments import quoted as in_double_quotes

    return in_double_quotes(text)
