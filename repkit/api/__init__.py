"""The public contract: all that a plugin may import, together with `repkit.testing`.

Nothing here imports torch at run time, so that listing and checking stay fast.
`API_VERSION` is (major, minor): a component is accepted when its major equals ours and its minor is not greater.
"""

from repkit.api.components import (
    Corpus,
    Encoder,
    EvaluationProtocol,
    Frontend,
    Objective,
    SerModel,
)
from repkit.api.config import Config
from repkit.api.data import (
    MISSING,
    Audio,
    Batch,
    Fold,
    Frames,
    Outputs,
    TaskSpec,
    Utterance,
    View,
)

API_VERSION = (1, 0)

__all__ = [
    "API_VERSION",
    "MISSING",
    "Audio",
    "Batch",
    "Config",
    "Corpus",
    "Encoder",
    "EvaluationProtocol",
    "Fold",
    "Frames",
    "Frontend",
    "Objective",
    "Outputs",
    "SerModel",
    "TaskSpec",
    "Utterance",
    "View",
]
