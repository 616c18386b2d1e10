"""``repkit predict``: a finished run on new speech; see `run`."""

from repkit.workflows.predict.run import Choice, Predictions, apply_run, predict

__all__ = ["Choice", "Predictions", "apply_run", "predict"]
