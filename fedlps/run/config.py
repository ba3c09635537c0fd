"""The configuration of a run: every key, what it means, what it may be, its default.

Keys without a default come from the preset. Fields keep the order in which `run.yaml` and `--explain` list them.
"""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from fedlps.run.values import Allowed, Value, whole

Whole = Annotated[int, BeforeValidator(whole)]
Count = Annotated[Whole, Ge(1)]
Natural = Annotated[Whole, Ge(0)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Gt(0), Le(1)]
Probability = Annotated[float, Ge(0), Le(1)]


def _ascending(arms: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= arms[0] < arms[1] <= 1:
        raise ValueError("not ascending in [0, 1]")
    return arms


Arms = Annotated[tuple[float, float], AfterValidator(_ascending), Allowed("[lo, hi] with 0 <= lo < hi <= 1")]
Levels = Annotated[tuple[Share, ...], Len(1), Allowed("a list of numbers in (0, 1]")]


class Group(BaseModel):
    """Keys that belong together: frozen, nothing unknown, no value of another type, no infinity, no NaN."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Named(Group):
    """A name and the parameters that whoever owns the name understands."""

    model_config = ConfigDict(extra="allow")

    @property
    def parameters(self) -> dict[str, Value]:
        """The parameters beside the name, as given; whoever owns the name checks them."""
        return dict(self.__pydantic_extra__ or {})


class Data(Group):
    name: str = Field(description="data set (see: fedlps data)")
    root: str | None = Field(
        default=None, description="its directory; null: $FEDLPS_DATA/<name>, else the user's cache"
    )
    share: bool = Field(default=False, description="split.kind=iid: clients may share samples when there are too few")
    partial: bool = Field(default=False, description="train on the files that are there when some are missing")


class Split(Group):
    """What every kind of split has."""

    kind: str = Field(description="how training samples are divided between clients")
    test_per_class: Count = Field(description="test images per class that a client has")


class Pathological(Split):
    kind: Literal["pathological"]
    shards_per_client: Count = Field(description="shards of samples sorted by label that a client gets")
    shard_size: Count = Field(description="samples in a shard")


class Iid(Split):
    kind: Literal["iid"]
    samples: Count | None = Field(default=None, description="samples per client; null: floor(all / clients)")


class Dirichlet(Split):
    kind: Literal["dirichlet"]
    alpha: Positive = Field(description="concentration: the smaller, the more unequal the clients' classes")
    min_samples: Count = Field(default=10, description="redrawn until every client has so many samples")


class Lacking(Split):
    kind: Literal["lacking"]
    lacking: Natural = Field(description="classes that a client has none of")
    samples: Count = Field(description="samples per client")


SPLITS: dict[str, type[Split]] = {
    "pathological": Pathological,
    "iid": Iid,
    "dirichlet": Dirichlet,
    "lacking": Lacking,
}


class Model(Named):
    name: str = Field(description="model; model.* are its parameters")


class Objective(Group):
    mu: NotNegative = Field(default=1.0, description="weight of the pull to the received parameters, eq. (7)")
    lambda_: NotNegative = Field(default=1.0, alias="lambda", description="weight of the importance loss, eq. (8)")
    norm: Literal["mean", "sum"] = Field(default="mean", description="squared norms divided by their length, or plain")


class Importance(Group):
    init: Literal["magnitude", "random"] = Field(
        default="magnitude", description="what a client's first importance comes from"
    )
    pattern: Literal["learned", "first", "magnitude", "random"] = Field(
        default="learned", description="which units are kept; all but learned are chosen once a round"
    )
    kappa: NotNegative = Field(
        default=0.0, description="weight of the straight-through task gradient to the importance"
    )


class Capability(Group):
    mode: Literal["dynamic", "fix"] = Field(
        default="dynamic", description="devices' speeds: drawn every round, or once"
    )
    levels: Literal["high", "median", "low"] | Levels = Field(
        default="high", description="speeds drawn from: high 1 .. 1/16, median 1 .. 1/4, low 1 and 1/2, or a list"
    )


class Evaluation(Group):
    every: Count = Field(default=1, description="rounds between evaluations; the last round is always evaluated")
    batch: Count = Field(
        default=200, description="samples per batch when a model with batch-statistics norm is evaluated"
    )


class Aggregation(Group):
    rule: Literal["residual", "holders", "uniform"] = Field(
        default="residual",
        description="weights of uploads, eq. (13): by samples, over an entry's holders only, or equal",
    )
    noise: NotNegative = Field(
        default=0.0, description="standard deviation of the noise added to the global parameters"
    )


class Cost(Group):
    flops_per_second: Positive = Field(default=727e9, description="speed of a device of capability 1, FLOP/s")
    bytes_per_second: Positive = Field(default=14e6, description="uplink, byte/s")
    alpha: NotNegative = Field(default=1.0, description="weight of the upload time in the local cost, eq. (14)")


class Faults(Group):
    dropout: Probability = Field(default=0.0, description="probability that a client's upload is lost")


class Ratio(Group):
    rule: Literal["p-ucbv", "rcr"] | Share = Field(
        default="p-ucbv", description="ratio of units a client keeps: learned by its bandit, its capability, or fixed"
    )
    arms: Arms = Field(default=(0.0, 1.0), description="range of ratios the bandit chooses from")
    initial: Count = Field(default=5, description="partitions of the range at the start, I_0")
    rho: NotNegative = Field(default=0.5, description="weight of exploration, eq. (17)")
    delta: Annotated[float, Ge(-1), Le(1)] = Field(
        default=-0.05, description="a change of accuracy below it removes the lower partition"
    )


class Method(Named):
    name: str = Field(description="method, chosen by --method (see: fedlps methods); method.* are its parameters")


class Config(Group):
    """Everything that decides what a run computes, and how it is computed. Immutable."""

    seed: Natural = Field(default=0, description="seed of every random stream")
    rounds: Count = Field(description="communication rounds R")
    clients: Count = Field(description="clients K")
    fraction: Share = Field(description="share of the clients selected per round")
    epochs: Count = Field(description="local epochs E")
    batch: Count = Field(description="local batch size B")
    lr: Positive = Field(description="learning rate of round 0")
    decay: Share = Field(description="factor on the learning rate per round")
    momentum: Annotated[float, Ge(0), Lt(1)] = Field(description="momentum, from zero in each round")
    weight_decay: NotNegative = Field(description="weight decay")
    clip: NotNegative = Field(description="largest norm of a step's gradient; 0: not clipped")
    data: Data
    split: Annotated[Pathological | Iid | Dirichlet | Lacking, Field(discriminator="kind")]
    model: Model
    method: Method
    objective: Objective = Objective()
    importance: Importance = Importance()
    capability: Capability = Capability()
    ratio: Ratio = Ratio()
    aggregation: Aggregation = Aggregation()
    evaluation: Evaluation = Evaluation()
    cost: Cost = Cost()
    faults: Faults = Faults()
    checkpoint_seconds: NotNegative = Field(default=60.0, description="seconds between checkpoints")
    checkpoint_every: Count | None = Field(
        default=None, description="rounds between checkpoints; null: only the seconds count"
    )
    threads: Literal["all"] | Count = Field(
        default="all", description="threads of the CPU executor; all: every core allowed"
    )
    precision: Literal["fp32", "tf32", "bf16"] = Field(default="fp32", description="arithmetic of the products")
    executor: Literal["auto", "reference", "cpu", "cuda"] = Field(
        default="auto", description="what trains the clients; auto: the fastest that can"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where it trains; auto: a GPU if there is one"
    )
    memory: Literal["auto"] | Count = Field(default="auto", description="bytes a cohort may take on a GPU")


RESUMABLE = ("checkpoint_seconds", "checkpoint_every", "threads", "executor", "device", "memory")
"""Keys that a resumed run may be given anew: they change no draw and no formula."""
