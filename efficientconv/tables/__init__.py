"""Published tables: the printed figures beside what this project computes and measures.

Importing this imports nothing heavy; counting imports torch. What belongs where:

- published: ``figures`` (a printed number and its digits), ``table`` (tables, rows, columns), ``load`` (their files);
- composed: ``overrides`` (words in Hydra's grammar), ``configurations`` (what they make);
- counted: ``counts`` (one row's network), ``parallel`` (many of them on several cores);
- measured: ``measured`` (runs of a row), ``differences`` (how one is not as published), ``sweep`` (how it is trained);
- all three: ``entries``, each a row with its published, counted and measured figures;
- printed: ``cells`` (what is said), ``formats`` and ``markup`` (how), ``page`` (``docs/tables.md``), ``listing``;
- the tool: ``words`` (its command line), ``tool`` (what it does).
"""
