"""Runs on disk: the run directory, its name, its configuration read as data, and where its figures come from.

Everything that reads runs (evaluation, tables, reports, export) needs only this; importing it imports no torch.
"""
