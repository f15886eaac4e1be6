"""Published tables: the printed figures beside what this project computes and measures.

Importing this imports nothing heavy; counting imports torch.
"""
