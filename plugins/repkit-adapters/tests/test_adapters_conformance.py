"""The conformance kit over everything that this distribution brings."""

from repkit_adapters.adapter_resnet import AdapterResNet
from repkit_adapters.objectives import Focal, SoftOrdinal
from repkit_adapters.partitions import GerczukPartitions

from repkit.testing import conformance_tests

SMALL = {"width": 2, "attention_units": 6}

test_adapters = conformance_tests("repkit.models", AdapterResNet, settings=SMALL)
test_plain = conformance_tests("repkit.models", AdapterResNet, settings={**SMALL, "mode": "plain"})
test_routes = conformance_tests("repkit.models", AdapterResNet, settings={**SMALL, "view_tasks": ("arousal",)})
test_unmasked = conformance_tests("repkit.models", AdapterResNet, settings={**SMALL, "mask": False})

test_focal = conformance_tests("repkit.objectives", Focal)
test_soft_ordinal = conformance_tests("repkit.objectives", SoftOrdinal)

test_partitions = conformance_tests("repkit.protocols", GerczukPartitions)
test_rotated_partitions = conformance_tests("repkit.protocols", GerczukPartitions, settings={"rotations": 4})
test_official_partitions = conformance_tests(
    "repkit.protocols", GerczukPartitions, settings={"columns": {"kit_a": "part"}}
)
