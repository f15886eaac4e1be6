"""Measuring a row: its runs, their differences from the published training, and the sweeps for missing runs."""
