"""repkit's conformance kit over every component of this distribution."""

import repkit_dann.recipe_files as recipe_files
from repkit_dann.centre import CentreLoss
from repkit_dann.cnn_blstm import CnnBlstm
from repkit_dann.domain_adversarial import DomainAdversarial
from repkit_dann.gao_multi import GaoMulti
from repkit_dann.gao_spectrogram import GaoSpectrogram

from repkit.testing import conformance_tests

SMALL = {"filters": (4, 6), "units": 8}
SMALL_SATT = {"preset": "satt2017", "filters": (2, 3, 2), "units": 4}
DANN_1 = {"preset": "dann_1", "schedule": "dann"}
WEN = {"initial": "normal", "normalise": True, "scale": "wen"}

test_model = conformance_tests("repkit.models", CnnBlstm, settings=SMALL)
test_satt_model = conformance_tests("repkit.models", CnnBlstm, settings=SMALL_SATT)
test_adversarial = conformance_tests("repkit.objectives", DomainAdversarial)
test_adversarial_dann_1 = conformance_tests("repkit.objectives", DomainAdversarial, settings=DANN_1)
test_centre = conformance_tests("repkit.objectives", CentreLoss)
test_centre_wen = conformance_tests("repkit.objectives", CentreLoss, settings=WEN)
test_protocol = conformance_tests("repkit.protocols", GaoMulti)
test_protocol_rotations = conformance_tests("repkit.protocols", GaoMulti, settings={"rotations": 2})
test_frontend = conformance_tests("repkit.frontends", GaoSpectrogram)

# a recipe names its components, which are found only where this distribution is installed
test_recipe_dann = conformance_tests("repkit.recipes", recipe_files.dann)
test_recipe_dann_attentive = conformance_tests("repkit.recipes", recipe_files.dann_attentive)
test_recipe_gao2022 = conformance_tests("repkit.recipes", recipe_files.gao2022)
test_recipe_gao2022_cross = conformance_tests("repkit.recipes", recipe_files.gao2022_cross)
