"""repkit: two-stage representation learning for speech emotion recognition.

audio -> frames -> STAGE ONE encoder -> embeddings (HDF5 store) -+
            `------------- log-Mel frames (HDF5 store) ----------+-> STAGE TWO -> predictions -> scores -> report
"""

__version__ = "0.1.0"
