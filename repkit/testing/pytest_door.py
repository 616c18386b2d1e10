"""The kit as pytest tests: one test per check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from repkit.errors import UsageError
from repkit.testing.kit import Case, checks, judged, known_checks, make_case, run_check

Settings = Mapping[str, Any] | Callable[[Path], Mapping[str, Any]]


def conformance_tests(
    group: str,
    component: Any,
    *,
    settings: Settings | None = None,
    expected_failures: Mapping[str, str] | None = None,
    **circumstances: Any,
) -> Callable[..., None]:
    """Return a test function, one test per check of the group; bind it to a name that begins with ``test_``.

    A check that does not apply to the component passes; ``repkit plugins check NAME`` says which do not.

    Args:
        group: entry-point group.
        component: a class, the name of an installed component, or for recipes a name or a path.
        settings: of its Config; or a function that gets an empty folder, puts there what the component needs (sounds,
            weights) and returns the settings.
        expected_failures: check to reason, see `repkit.testing.check_component`.
        **circumstances: see the group's case.

    Raises:
        UsageError: an unknown group or check, or no pytest.
    """
    try:
        import pytest
    except ImportError as error:
        raise UsageError("conformance_tests: pytest is not installed; pip install pytest") from error
    expected = known_checks(group, expected_failures)
    made: list[Case] = []

    @pytest.mark.parametrize("check", checks(group), ids=lambda one: one.name)
    def test(check: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
        if not made:
            given = settings(tmp_path_factory.mktemp("component")) if callable(settings) else settings
            made.append(make_case(group, component, given, **circumstances))
        result = judged(run_check(check, made[0]), expected)
        if result.status == "failed":
            pytest.fail(f"{result.message}\nThe rule prevents: {check.harm}", pytrace=False)

    return test
