"""What a network costs: parameters, multiply-adds, activations, by module and by the conventions of the papers."""

from efficientconv.profiling.conventions import CONVENTIONS, Convention
from efficientconv.profiling.profile import ModuleProfile, Profile, complexity
from efficientconv.profiling.trace import meta_copy

__all__ = ["CONVENTIONS", "Convention", "ModuleProfile", "Profile", "complexity", "meta_copy"]
