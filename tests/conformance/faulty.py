"""All deliberately faulty components; importing this fills `FAULTS`."""

import faulty_imports
import faulty_models
import faulty_objectives
import faulty_pretraining
import faulty_protocols
import faulty_recipes
import faulty_sound
from faults import FAULTS, Fault

MODULES = (
    faulty_imports,
    faulty_models,
    faulty_objectives,
    faulty_pretraining,
    faulty_protocols,
    faulty_recipes,
    faulty_sound,
)

__all__ = ["FAULTS", "MODULES", "Fault"]
