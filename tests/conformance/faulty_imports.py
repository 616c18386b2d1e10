"""A model that reaches into a room of repkit."""

from faults import fault
from reference_models import Pooled

from repkit.errors import did_you_mean


@fault("repkit.models", "imports_only_the_contract")
class Intruder(Pooled):
    helper = staticmethod(did_you_mean)
