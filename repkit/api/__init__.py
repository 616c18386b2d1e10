"""The public contract: all that a plugin may import, together with `repkit.testing`.

Nothing here imports torch at run time, so that listing and checking stay fast.
`API_VERSION` is (major, minor): a component is accepted when its major equals ours and its minor is not greater.
"""

from typing import TYPE_CHECKING, Any

from repkit.api.components import (
    DOMAINS,
    MODEL_CAPABILITIES,
    OBJECTIVE_CAPABILITIES,
    Corpus,
    Encoder,
    EvaluationProtocol,
    Frontend,
    Objective,
    PretrainingObjective,
    SerModel,
)
from repkit.api.config import Config
from repkit.api.data import (
    MISSING,
    Audio,
    Batch,
    EncoderStates,
    Fold,
    Frames,
    LabelledVectors,
    Outputs,
    PretrainBatch,
    PretrainTask,
    TaskSpec,
    Utterance,
    View,
)
from repkit.api.splits import DevConfig, check_utterances, speaker_genders, speaker_parts, split_dev
from repkit.errors import BadAudioError, DataError, PluginError, RepkitError, UsageError

if TYPE_CHECKING:
    from repkit.api.dropout import Dropout

API_VERSION = (1, 0)


def __getattr__(name: str) -> Any:
    if name == "Dropout":  # a torch module; whoever uses it has paid for torch already
        from repkit.api.dropout import Dropout

        return Dropout
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "API_VERSION",
    "DOMAINS",
    "MISSING",
    "MODEL_CAPABILITIES",
    "OBJECTIVE_CAPABILITIES",
    "Audio",
    "BadAudioError",
    "Batch",
    "Config",
    "Corpus",
    "DataError",
    "DevConfig",
    "Dropout",
    "Encoder",
    "EncoderStates",
    "EvaluationProtocol",
    "Fold",
    "Frames",
    "Frontend",
    "LabelledVectors",
    "Objective",
    "Outputs",
    "PluginError",
    "PretrainBatch",
    "PretrainTask",
    "PretrainingObjective",
    "RepkitError",
    "SerModel",
    "TaskSpec",
    "UsageError",
    "Utterance",
    "View",
    "check_utterances",
    "speaker_genders",
    "speaker_parts",
    "split_dev",
]
