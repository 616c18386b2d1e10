"""repkit: two-stage representation learning for speech emotion recognition.

audio -> frames -> STAGE ONE encoder -> embeddings (HDF5 store) -+
            `------------- log-Mel frames (HDF5 store) ----------+-> STAGE TWO -> predictions -> scores -> report

The names below are the front door for programs (docs/python.md). They are imported when they are asked for, so that
``import repkit`` costs nothing; `__init__.pyi` tells editors and type checkers what they are.
"""

from importlib import import_module as _import_module

__version__ = "0.1.0"

_DOORS = {
    "load_encoder": "repkit.stage_one.open",
    "load_run": "repkit.workflows.front_door",
    "make_folds": "repkit.workflows.front_door",
    "open_corpus": "repkit.workflows.front_door",
    "open_store": "repkit.store",
    "predict": "repkit.workflows.predict",
}

__all__ = ["__version__", "load_encoder", "load_run", "make_folds", "open_corpus", "open_store", "predict"]


def __getattr__(name: str) -> object:
    if name not in _DOORS:
        raise AttributeError(f"module 'repkit' has no attribute {name!r}; it has {', '.join(_DOORS)} (docs/python.md)")
    # by its name as a text: the floors below must not depend on those above through this file, which all of them import
    found = globals()[name] = getattr(_import_module(_DOORS[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_DOORS})
