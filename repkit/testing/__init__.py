"""The conformance kit: what a component must do, as checks that repkit's own components and strangers' alike must pass.

A plugin's test file::

    from repkit.testing import conformance_tests

    from my_plugin import MeanPool

    test_mean_pool = conformance_tests("repkit.models", MeanPool)

The same checks run over an installed component as ``repkit plugins check NAME``.
"""

from repkit.testing.kit import Broken, Check, NotApplicable, Report, Result, check_component, checks
from repkit.testing.pytest_door import conformance_tests

__all__ = [
    "Broken",
    "Check",
    "NotApplicable",
    "Report",
    "Result",
    "check_component",
    "checks",
    "conformance_tests",
]
