"""Rows as text, Markdown, CSV, JSON and HTML, and the page of all tables."""
