"""Counting a row's network: its configuration composed, its parameters and MACs counted."""
