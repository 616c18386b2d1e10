"""Components by name: discovery reads metadata only, a component is imported when its name is used."""

from repkit.plugins.discover import GROUPS, Component, blame, components, find
from repkit.plugins.load import build_config, load

__all__ = ["GROUPS", "Component", "blame", "build_config", "components", "find", "load"]
