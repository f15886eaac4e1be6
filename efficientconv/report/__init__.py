"""Many run directories become one table and its plots.

Nothing here imports torch. What belongs where:

- read: ``runs`` (finished runs, and what was left out and why), ``curves`` (their epochs);
- sorted: ``configurations`` (runs that differ by the seed alone, and the options by which others differ);
- computed: ``comparison`` (paired test, Holm), ``table`` (a row for each configuration);
- printed: ``cells`` (what is said), ``formats`` (text, Markdown, CSV), ``latex``, ``charts`` and ``page`` (HTML),
  ``figure`` (PNG, SVG, PDF);
- the tool: ``words`` (its command line), ``tool`` (what it does).
"""
