"""Support vector machine on utterance vectors, with linear or Gaussian kernel.

Sources: Keesing et al. 2020 (RBF on IS09, grid of C and gamma) and Gerczuk et al. 2021 (linear on eGeMAPS and
DeepSpectrum, ladder of C). The solver is scikit-learn's (libsvm, one against one).
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from repkit import api
from repkit.errors import DataError
from repkit.stage_two.estimator import Estimator, present_classes


class Svm(Estimator):
    """One-against-one support vector classifier.

    The classes are ranked by the votes of all pairs; of equal votes the class that comes first wins, as in libsvm.
    ``shared`` holds the votes.
    """

    class Config(api.Config):
        """Settings; every combination of `c` and `gamma` is a candidate.

        Attributes:
            kernel: ``rbf``: exp(-gamma |x - y|^2); ``linear``: x . y.
            c: penalties of errors to choose from; in the order of preference among equals.
            gamma: of the RBF kernel, to choose from.
            class_weight: ``balanced`` multiplies C by N / (n_classes N_c) of the utterances it is fitted on.
        """

        kernel: Literal["rbf", "linear"] = "rbf"
        c: tuple[float, ...] = Field(default=tuple(2.0**k for k in range(-6, 7, 2)), min_length=1)
        gamma: tuple[float, ...] = Field(default=tuple(2.0**k for k in range(-12, -1, 2)), min_length=1)
        class_weight: Literal["none", "balanced"] = "none"

    def __init__(self, config: Config, task: api.TaskSpec) -> None:
        super().__init__(config, task)
        self._products: tuple[api.LabelledVectors, np.ndarray] | None = None

    def candidates(self) -> list[dict[str, float]]:
        """Return every pair of C and gamma (linear: every C), C slowest."""
        if self.config.kernel == "linear":
            return [{"c": c} for c in self.config.c]
        return [{"c": c, "gamma": gamma} for c in self.config.c for gamma in self.config.gamma]

    def fit(self, view: str, known: api.LabelledVectors, candidate: dict[str, float], seed: int) -> None:
        """Fit one view; the kernel's inner products are kept for the next candidate on the same utterances.

        Args:
            view: whose classes `known.target` holds.
            known: utterances to learn from.
            candidate: one of `candidates`.
            seed: not used; the solver draws nothing.

        Raises:
            DataError: a single class, or more utterances than their inner products find memory for.
        """
        from sklearn.svm import SVC

        classes = present_classes(known.target)
        gamma = candidate.get("gamma", 0.0)
        weight = "balanced" if self.config.class_weight == "balanced" else None
        machine = SVC(C=candidate["c"], kernel="precomputed", class_weight=weight, cache_size=500)
        machine.fit(self._kernel(known, gamma), known.target.numpy())
        support, weights = known.values[torch.from_numpy(machine.support_).long()], _pair_weights(machine)
        offsets = np.asarray(machine.intercept_) * (-1 if len(classes) == 2 else 1)
        if self.config.kernel == "linear":
            # a hyperplane for each two classes says the same as hundreds of support vectors, in a hundredth of the space
            self.keep(view, classes=classes, normals=weights @ support.double().numpy(), offsets=offsets)
        else:
            self.keep(view, classes=classes, support=support, weights=weights, offsets=offsets, gamma=np.float32(gamma))

    def _kernel(self, known: api.LabelledVectors, gamma: float) -> np.ndarray:
        linear = self.config.kernel == "linear"
        if self._products is None or self._products[0] is not known:
            self._products = None  # those of other utterances leave their room first
            _check_room(len(known.values), 1 if linear else 2)
            values = known.values.double()
            products = values @ values.T if linear else torch.cdist(values, values).square_()
            self._products = (known, products.numpy())
        products = self._products[1]
        if linear:
            return products
        kernel = -gamma * products
        return np.exp(kernel, out=kernel)

    def scores(self, view: str, values: torch.Tensor) -> torch.Tensor:
        """Return the votes of each class, (B, C): of equal ones the first class is ahead by a thousandth."""
        classes, offsets, values = self.kept(view, "classes"), self.kept(view, "offsets").double(), values.double()
        if self.config.kernel == "linear":
            decisions = values @ self.kept(view, "normals").double().T + offsets
        else:
            distances = torch.cdist(values, self.kept(view, "support").double()).square()
            kernel = torch.exp(-self.kept(view, "gamma").double() * distances)
            decisions = kernel @ self.kept(view, "weights").double().T + offsets
        pairs = list(combinations(range(len(classes)), 2))
        votes = values.new_zeros(len(values), len(self.task.views[view]))
        for place, (one, other) in enumerate(pairs):
            first = decisions[:, place] > 0
            votes[:, classes[one]] += first
            votes[:, classes[other]] += ~first
        # classes that did not occur have no votes and come last
        absent = [c for c in range(votes.shape[1]) if c not in classes.tolist()]
        votes[:, absent] = -1.0
        return (votes - 1e-3 * torch.arange(votes.shape[1])).float()


def _check_room(n: int, n_matrices: int) -> None:
    """Refuse what would end in the system stopping the process: inner products of n utterances that memory does not hold."""
    wanted, free = 8.0 * n * n * n_matrices, free_memory()
    if free is not None and wanted > free:
        raise DataError(
            f"fit: the inner products of {n} utterances take {wanted / 1e9:.1f} GB of memory, of which {free / 1e9:.1f} GB are "
            "free; enough was expected; use fewer --workers, fewer utterances, or a model that needs no inner products "
            "(--set model.name=logistic_regression)"
        )


def free_memory() -> float | None:
    """Return the bytes that programs may still take, None where the system (not Linux) does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _pair_weights(machine: Any) -> np.ndarray:
    """Return (pairs, support vectors): the weights of the decision between each two classes.

    libsvm keeps for every support vector one coefficient against each other class; the pair (i, j) uses those of class i
    against j and of class j against i.
    """
    starts = np.concatenate([[0], np.cumsum(machine.n_support_)])
    n_classes = len(machine.n_support_)
    coefficients = machine.dual_coef_
    if n_classes == 2:  # here alone scikit-learn turns libsvm's sign round, so that positive means the second class
        return -np.asarray(coefficients, dtype=np.float64)
    rows = []
    for i, j in combinations(range(n_classes), 2):
        row = np.zeros(starts[-1])
        row[starts[i] : starts[i + 1]] = coefficients[j - 1, starts[i] : starts[i + 1]]
        row[starts[j] : starts[j + 1]] = coefficients[i, starts[j] : starts[j + 1]]
        rows.append(row)
    return np.stack(rows)
