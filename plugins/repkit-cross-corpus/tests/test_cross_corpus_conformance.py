"""The conformance kit over all components of this distribution."""

from repkit_cross_corpus import recipes
from repkit_cross_corpus.corpus_pairs import CorpusPairs
from repkit_cross_corpus.parry_cnn import ParryCnn
from repkit_cross_corpus.parry_cnn_lstm import ParryCnnLstm
from repkit_cross_corpus.parry_lstm import ParryLstm
from repkit_cross_corpus.parry_union import ParryUnion

from repkit.testing import conformance_tests

CNN = {"channels": (6, 7, 8, 9), "fc_size": 10}
CNN_LSTM = {"channels": (6, 7, 8), "hidden_size": 9, "fc_size": 10}
LSTM = {"hidden_size": 9, "fc_size": 10}
REMEDY = {"init": "scaled", "pooled_norm": "batch"}

test_parry_lstm = conformance_tests("repkit.models", ParryLstm, settings=LSTM)
test_parry_cnn = conformance_tests("repkit.models", ParryCnn, settings=CNN)
test_parry_cnn_lstm = conformance_tests("repkit.models", ParryCnnLstm, settings=CNN_LSTM)
test_remedy = conformance_tests("repkit.models", ParryCnnLstm, settings={**CNN_LSTM, **REMEDY})
test_layer_norm = conformance_tests("repkit.models", ParryLstm, settings={**LSTM, "pooled_norm": "layer"})

test_union = conformance_tests("repkit.protocols", ParryUnion)
test_rotations = conformance_tests("repkit.protocols", ParryUnion, settings={"rotations": 3})
test_pairs = conformance_tests("repkit.protocols", CorpusPairs)

test_cross_corpus = conformance_tests("repkit.recipes", recipes.cross_corpus)
test_parry2019 = conformance_tests("repkit.recipes", recipes.parry2019)
test_leave_one_corpus_out = conformance_tests("repkit.recipes", recipes.leave_one_corpus_out)
test_corpus_pairs = conformance_tests("repkit.recipes", recipes.corpus_pairs)
