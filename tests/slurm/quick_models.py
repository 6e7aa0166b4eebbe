"""What goes with it: a random walk, which a step that is left out, done twice or begun from another state leads
elsewhere."""

import random


class Walk:
    """With methods named as scikit-learn's are."""

    def __init__(self, lr: float, seed: int) -> None:
        if lr < 0:
            raise ValueError(f"lr={lr} is negative")
        self.lr, self.place, self.chance = lr, 0.0, random.Random(seed)

    def partial_fit(self) -> None:
        """A step."""
        self.place += self.lr * self.chance.random()

    def score(self) -> float:
        """Where it is."""
        return self.place


def logistic(lr: float, seed: int, alpha: float = 1e-4) -> Walk:
    return Walk(lr, seed)


def mlp(lr: float, seed: int, hidden: int = 64, alpha: float = 1e-4) -> Walk:
    return Walk(lr, seed)
