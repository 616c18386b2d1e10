"""``repkit compare``: stores under the same heads and protocols, and the gate; see `run`."""
