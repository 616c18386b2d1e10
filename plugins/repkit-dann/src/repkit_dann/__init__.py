"""Domain-adversarial training and centre loss for repkit, after Gao et al., ICASSP 2022.

Components are found by name through the entry points of this distribution; nothing is imported before it is used.
"""
