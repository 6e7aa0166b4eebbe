"""The models: each function returns an estimator that learns with ``partial_fit``.

scikit-learn is imported when a model is made, so that ``--help`` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sklearn.linear_model import SGDClassifier
    from sklearn.neural_network import MLPClassifier


def logistic(lr: float, seed: int, alpha: float = 1e-4) -> SGDClassifier:
    """Logistic regression; ``alpha`` is the weight of the L2 penalty."""
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(
        loss="log_loss", learning_rate="constant", eta0=lr, alpha=alpha, random_state=seed
    )


def mlp(lr: float, seed: int, hidden: int = 64, alpha: float = 1e-4) -> MLPClassifier:
    """A perceptron with one layer of ``hidden`` units, trained by Adam."""
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(
        hidden_layer_sizes=(hidden,), learning_rate_init=lr, alpha=alpha, random_state=seed
    )
