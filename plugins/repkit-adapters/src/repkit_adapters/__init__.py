"""Gerczuk et al. 2021 for repkit: one ResNet shared by many corpora, with small adapters, norms and a head for each.

Paper: M. Gerczuk, S. Amiriparian, S. Ottl, B. Schuller, "EmoNet: a transfer learning framework for multi-corpus speech
emotion recognition", arXiv 2103.08310, 2021.
"""
