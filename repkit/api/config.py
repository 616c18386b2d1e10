"""The base class of every component's settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Settings of a component: typed, frozen, unknown keys refused (pydantic).

    A component class names its settings as an inner class ``Config(repkit.api.Config)``; the table of a recipe that
    names the component is validated against it, all problems at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)
