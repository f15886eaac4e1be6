"""A trained network leaves the program: folded, exported, and asked for its predictions."""

from efficientconv.deploy.fold import fold, fold_layers

__all__ = ["fold", "fold_layers"]
