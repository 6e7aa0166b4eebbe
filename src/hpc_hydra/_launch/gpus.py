"""What a job's request makes of its number of GPUs, as interpolations of Hydra, so that
`hydra.launcher.gpus=` and `hydra.launcher.tasks_per_node=` change all that goes with them."""

import math
import re
import warnings
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

GPUS = "${hydra.launcher.gpus}"
RANKS = "${hydra.launcher.tasks_per_node}"  # of a node
ALL_RANKS = "${hpc.times:${hydra.launcher.nodes},%s}" % RANKS  # noqa: UP031 - braces
COUNT = re.compile(r"\{(\d*)n\}")


def times(*factors: int | None) -> int:
    """Their product; what a launcher leaves out counts as one."""
    return math.prod(1 if factor is None else int(factor) for factor in factors)


def share(each: int, gpus: int | None, ranks: int | None) -> int:
    """What one of a node's ranks has of its GPUs, or of ``each`` CPUs to a GPU: one at least."""
    return max(times(each, gpus) // times(ranks), 1)


with warnings.catch_warnings():  # of 2.4, where it is called as an older thing was in 2.3
    warnings.simplefilter("ignore", UserWarning)
    OmegaConf.register_new_resolver("hpc.times", times, replace=True)
    OmegaConf.register_new_resolver("hpc.share", share, replace=True)


def asks_for_gpus(parameters: Mapping[str, Any]) -> bool:
    """Whether a launcher with these ``parameters`` does."""
    options = {**parameters, **(parameters["additional_parameters"] or {})}
    numbers = ("gpus", "gpus_per_node", "gpus_per_task", "ntasks_per_gpu")
    return "gpu" in str(options.get("gres")) or any(options.get(each) for each in numbers)


def with_gpus(text: str) -> str:
    """``text``, options of sbatch, with ``{n}`` as the number of GPUs and ``{10n}`` as ten times as many.
    What is for each rank is shared out among them.

    >>> with_gpus("gres=gpu:{n} mem={60n}G")
    'gres=gpu:${hydra.launcher.gpus} mem=${hpc.times:60,${hydra.launcher.gpus}}G'
    """

    def grown(word: re.Match[str]) -> str:
        per_rank = re.match(r"[^=]*per[-_]task=", word[0])
        return COUNT.sub(lambda count: number(count[1] or "1", bool(per_rank)), word[0])

    def number(each: str, per_rank: bool) -> str:
        if per_rank:
            return f"${{hpc.share:{each},{GPUS},{RANKS}}}"
        return GPUS if each == "1" else f"${{hpc.times:{each},{GPUS}}}"

    return re.sub(r"\S*\{\d*n\}\S*", grown, text)
