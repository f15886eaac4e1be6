"""Published tables: the printed figures beside what this project computes and measures.

Importing this imports nothing heavy; counting imports torch. The steps, in their order:

- ``load``: ``files`` (the tables' files), ``table`` (tables, rows, columns), ``figures`` (a printed number and its
  digits), ``overrides`` (settings in Hydra's grammar);
- ``count``: ``configurations`` (composed from the overrides), ``network`` (one row's counts), ``parallel`` (many
  rows on several cores);
- ``measure``: ``runs`` (the finished runs of a row), ``differences`` (between a run and the published training),
  ``sweep`` (the command line that trains a row);
- ``entries``: rows with their published, counted and measured figures;
- ``render``: entries and the list of tables in every format;
- ``tool`` (``efficientconv tables``) and ``arguments`` (its command line).
"""
