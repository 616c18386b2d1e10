"""Parry et al. 2019 for repkit: three architectures and the protocols of cross-corpus training.

Paper: J. Parry, D. Palaz, G. Clarke, P. Lecomte, R. Mead, M. Berger, G. Hofer, "Analysis of deep learning architectures
for cross-corpus speech emotion recognition", Interspeech 2019 (doi 10.21437/Interspeech.2019-2753).
"""
