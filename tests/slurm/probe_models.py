"""Models that let a test look into a run, chosen with `model._target_=probe_models.NAME`.

Their numbers are those of the generated repository's `models.mlp`.
"""

import os
import signal
import sys
import time
from typing import Any

from sklearn.neural_network import MLPClassifier


class SlowMLP(MLPClassifier):  # type: ignore[misc]
    """Half a second slower per epoch, so that there is something to interrupt."""

    def partial_fit(self, *args: Any, **kwargs: Any) -> Any:
        """Sleep, then learn."""
        time.sleep(0.5)
        return super().partial_fit(*args, **kwargs)


def slow_mlp(lr: float, seed: int, hidden: int, alpha: float) -> SlowMLP:
    """An estimator that takes its time."""
    return SlowMLP((hidden,), learning_rate_init=lr, alpha=alpha, random_state=seed)


def telling_mlp(lr: float, seed: int, hidden: int, alpha: float) -> MLPClassifier:
    """Prints which GPUs the run sees."""
    print("GPUs of the run:", os.environ.get("CUDA_VISIBLE_DEVICES"))
    return MLPClassifier((hidden,), learning_rate_init=lr, alpha=alpha, random_state=seed)


def mixed(lr: float, seed: int, hidden: int, alpha: float) -> MLPClassifier:
    """Prints which GPUs and CPUs the run sees, and comes to an end of its own by its seed."""
    print("GPUs of the run:", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    print("CPUs of the run:", os.environ.get("OMP_NUM_THREADS"), flush=True)
    if seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 2:
        sys.exit(3)
    if seed == 3:
        raise ValueError("seed 3")
    return MLPClassifier((hidden,), learning_rate_init=lr, alpha=alpha, random_state=seed)
