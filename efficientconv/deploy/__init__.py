"""A trained network leaves the program: folded, exported, and asked for its predictions."""

from efficientconv.deploy.fold import fold

__all__ = ["fold"]
