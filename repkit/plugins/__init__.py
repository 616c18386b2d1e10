"""Components by name: discovery reads metadata only, a component is imported when its name is used."""

from repkit.plugins.discover import GROUPS, Component, blame, claimed_twice, components, find
from repkit.plugins.load import build_config, load

__all__ = ["GROUPS", "Component", "blame", "build_config", "claimed_twice", "components", "find", "load"]
