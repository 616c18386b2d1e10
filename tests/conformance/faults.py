"""The register of deliberately faulty components: which check must catch each."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fault:
    """A component that breaks one rule.

    `also` are further checks that cannot but fail with it.
    """

    group: str
    check: str
    component: object
    settings: dict = field(default_factory=dict)
    also: tuple = ()

    def __str__(self):
        return f"{self.group.split('.')[1]}-{self.check}-{getattr(self.component, '__name__', self.component)}"


FAULTS = []


def fault(group, check, also=(), **settings):
    """Register a class as one that a check must catch."""

    def register(component):
        FAULTS.append(Fault(group, check, component, settings, also))
        return component

    return register
