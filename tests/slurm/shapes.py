"""Clusters of other shapes than the usual one."""

from cluster import Shape

TYPED = Shape(
    nodes=(
        "mig1 Gres=gpu:a100:2,gpu:a100_1g.5gb:4",
        "big1 Gres=gpu:a100:8",
        "big2 Gres=gpu:a100:8",
        "old1 Gres=gpu:v100:2",
        "plain1",
    ),
    partitions=(
        "ampere Nodes=mig1,big[1-2] Default=YES MaxTime=1-00:00:00",
        "volta Nodes=old1 MaxTime=20",
        "debug Nodes=old1",
        "cpu-only Nodes=plain1 MaxTime=2:00:00",
    ),
)
WITHOUT_GPUS = Shape(nodes=("n1", "n2"), partitions=("work Default=YES", "long MaxTime=7-0"))
# CPU jobs in `lake` and GPU jobs in `reef`, whose name tells nobody.
UNHELPFUL = Shape(
    nodes=(
        "c1 Feature=skylake",
        "c2 Feature=icelake",
        "g1 Gres=gpu:2 Feature=a100,40gb",
        "g2 Gres=gpu:2 Feature=a100,80gb",
    ),
    partitions=(
        "lake Nodes=c[1-2] Default=YES",
        "reef Nodes=g[1-2] MaxTime=2-00:00:00",
        "gpu Nodes=g[1-2] State=DOWN",
        "creek Nodes=c1 MaxTime=10 MaxNodes=1 AllowAccounts=ice",
    ),
    accounts=("ocean", "atmos", "ice"),
    qos=("urgent", "long"),
)
# What the sites' dialects speak of.
DIALECT = Shape(
    nodes=("g1 Gres=gpu:a100_1g.5gb:4 Feature=a100,80gb", "c1"),
    partitions=("gpu Nodes=g1", "cpu Nodes=c1 Default=YES"),
    accounts=("ocean", "ocean-gpu"),
    qos=("gpu-shd", "dev"),
)
