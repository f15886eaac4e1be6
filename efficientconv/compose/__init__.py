"""Composition: any convolution variant in any network, and a report of what that changed."""

from efficientconv.compose.fold_layers import fold_layers
from efficientconv.compose.replace import create_model, replace_convs
from efficientconv.compose.report import Kept, Replaced, ReplacementReport
from efficientconv.compose.where import Where

__all__ = ["Kept", "Replaced", "ReplacementReport", "Where", "create_model", "fold_layers", "replace_convs"]
