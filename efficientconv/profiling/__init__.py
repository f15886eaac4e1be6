"""The costs of a network: parameters, multiply-adds, activations, by module and by the conventions of the papers."""

from efficientconv.profiling.conventions import CONVENTIONS, Convention
from efficientconv.profiling.meta import meta_copy
from efficientconv.profiling.profile import ModuleProfile, Profile, complexity

__all__ = ["CONVENTIONS", "Convention", "ModuleProfile", "Profile", "complexity", "meta_copy"]
