# the names of __init__.py for type checkers, which cannot see what is imported by a text
from repkit.stage_one.open import load_encoder as load_encoder
from repkit.store import open_store as open_store
from repkit.workflows.front_door import load_run as load_run
from repkit.workflows.front_door import make_folds as make_folds
from repkit.workflows.front_door import open_corpus as open_corpus
from repkit.workflows.predict import predict as predict

__version__: str
