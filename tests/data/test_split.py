from collections.abc import Iterator

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fedlps.data import Split, split
from fedlps.errors import InputError
from fedlps.randomness import stream

CLASSES = 4
TRAIN = numpy.random.default_rng(5).integers(0, CLASSES, 240)
TEST = numpy.random.default_rng(6).integers(0, CLASSES, 80)

KINDS: list[tuple[str, dict[str, object], int, bool]] = [
    ("pathological", {"shards_per_client": 3, "shard_size": 7}, 11, False),
    ("iid", {"samples": 17}, 14, False),
    ("iid", {}, 7, False),
    ("iid", {"samples": 50}, 13, True),
    ("dirichlet", {"alpha": 0.7, "min_samples": 9}, 8, False),
    ("dirichlet", {"alpha": 100.0}, 8, False),
    ("lacking", {"lacking": 1, "samples": 31}, 9, False),
    ("lacking", {"lacking": 0, "samples": 8}, 3, False),
]
each_kind = pytest.mark.parametrize(("kind", "arguments", "clients", "share"), KINDS)


def make(
    kind: str = "iid",
    arguments: dict[str, object] | None = None,
    clients: int = 6,
    share: bool = False,
    **changes: object,
) -> Split:
    given: dict[str, object] = {
        "train_labels": TRAIN, "test_labels": TEST, "classes": CLASSES, "kind": kind, "arguments": arguments or {},
        "clients": clients, "test_per_class": 5, "seed": 3, "share": share,
    }  # fmt: skip
    return Split(**(given | changes))


def assigned(kind: str, arguments: dict[str, object], clients: int, own: list) -> Iterator[list[int]]:
    """Section 9 in plain words: each client's samples. own: the clients' streams, for the kind that draws from them."""
    rng = stream(3, 1)
    total = len(TRAIN)
    by_label = sorted(range(total), key=lambda index: TRAIN[index])
    if kind == "pathological":
        per, size = arguments["shards_per_client"], arguments["shard_size"]
        shards = rng.permutation(total // size)[: clients * per].reshape(clients, per)
        for row in shards:
            yield [index for shard in row for index in by_label[shard * size : (shard + 1) * size]]
    if kind == "iid":
        samples = arguments.get("samples", total // clients)
        order: list[int] = []
        while len(order) < clients * samples:
            order += rng.permutation(total).tolist()
        for client in range(clients):
            yield order[client * samples : (client + 1) * samples]
    if kind == "dirichlet":
        while True:
            dealt: list[list[int]] = [[] for _ in range(clients)]
            for label in range(CLASSES):
                mine = rng.permutation([index for index in range(total) if TRAIN[index] == label])
                cuts = numpy.floor(numpy.cumsum(rng.dirichlet([arguments["alpha"]] * clients))[:-1] * len(mine))
                for client, piece in enumerate(numpy.split(mine, cuts.astype(int))):
                    dealt[client] += piece.tolist()
            if min(map(len, dealt)) >= arguments.get("min_samples", 10):
                yield from dealt
                return
    if kind == "lacking":
        for rng in own:
            lacked = rng.permutation(CLASSES)[: arguments["lacking"]]
            samples = []
            for label in range(CLASSES):
                if label not in lacked:
                    mine = [index for index in range(total) if TRAIN[index] == label]
                    count = arguments["samples"] // (CLASSES - arguments["lacking"])
                    samples += rng.permutation(mine)[:count].tolist()
            yield samples


@each_kind
def test_matches_the_specification(kind: str, arguments: dict[str, object], clients: int, share: bool) -> None:
    made = make(kind, arguments, clients, share)
    streams = [stream(3, 1, client) for client in range(clients)]
    for client, samples in enumerate(assigned(kind, arguments, clients, streams)):
        rng = streams[client]
        shuffled = rng.permutation(samples)
        cut = int(0.9 * len(samples) + 1e-9)
        test = [
            index
            for label in sorted({TRAIN[sample] for sample in samples})
            for index in rng.permutation([place for place in range(len(TEST)) if TEST[place] == label])[:5]
        ]
        got = made.client(client)
        assert got.train.dtype == got.validate.dtype == got.test.dtype == numpy.int64
        assert got.train.tolist() == shuffled[:cut].tolist()
        assert got.validate.tolist() == shuffled[cut:].tolist()
        assert got.test.tolist() == rng.permutation(test).tolist()


@each_kind
def test_order_of_access_changes_nothing(
    kind: str, arguments: dict[str, object], clients: int, share: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, backward = make(kind, arguments, clients, share), make(kind, arguments, clients, share)
    wanted = [forward.client(client) for client in range(clients)]
    monkeypatch.setattr(split, "CACHE_BYTES", 1)  # nothing is remembered
    for client in [*reversed(range(clients)), 0, 1]:
        for part in ("train", "validate", "test"):
            assert_array_equal(getattr(backward.client(client), part), getattr(wanted[client], part))


@each_kind
def test_seed_matters(kind: str, arguments: dict[str, object], clients: int, share: bool) -> None:
    one, other = (make(kind, arguments, clients, share, seed=seed).client(0) for seed in (3, 4))
    assert one.train.tolist() != other.train.tolist()


def used(made: Split) -> list[int]:
    """Every client's training and validation samples, one client behind the other."""
    parts = [part for k in range(made.clients) for part in (made.client(k).train, made.client(k).validate)]
    return numpy.concatenate(parts).tolist()


@settings(max_examples=30, deadline=None)
@given(clients=st.integers(1, 40), kind=st.sampled_from(["pathological", "iid"]), seed=st.integers(0, 2**32))
def test_no_sample_is_used_twice(clients: int, kind: str, seed: int) -> None:
    arguments: dict[str, object] = {"shards_per_client": 2, "shard_size": 3} if kind == "pathological" else {}
    made = make(kind, arguments, clients, seed=seed)
    assert len(set(used(made))) == len(used(made)) == clients * (6 if kind == "pathological" else 240 // clients)
    for client in range(clients):
        samples = made.client(client)
        held = set(TRAIN[samples.train]) | set(TRAIN[samples.validate])
        assert set(TEST[samples.test]) == held
        assert len(set(samples.test)) == len(samples.test) == 5 * len(held)


@settings(max_examples=20, deadline=None)
@given(clients=st.integers(1, 8), seed=st.integers(0, 2**32), alpha=st.floats(0.5, 1e6))
def test_dirichlet_uses_every_sample_once(clients: int, seed: int, alpha: float) -> None:
    made = make("dirichlet", {"alpha": alpha, "min_samples": 2}, clients, seed=seed)
    assert sorted(used(made)) == list(range(240))


def test_sharing_uses_every_sample_before_any_twice() -> None:
    made = make("iid", {"samples": 24}, 15, share=True)
    assert sorted(used(made)[:240]) == list(range(240))
    assert len(set(used(made)[240:])) == 120


def test_many_clients_hold_no_objects_each() -> None:
    made = make("iid", {"samples": 10}, 100_000, share=True, test_per_class=1)
    assert len(made.client(99_999).train) == 9
    assert made.client(50_000).train.max() < len(TRAIN)


def test_memory_of_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make("iid", {"samples": 20}, 12)
    size = made.client(0).nbytes
    monkeypatch.setattr(split, "CACHE_BYTES", 3 * size)
    for client in range(12):
        made.client(client)
    kept = made.client(11)
    assert made.client(11) is kept
    assert sum(samples.nbytes for samples in made._cache.values()) == made._cached_bytes <= 3 * size


def test_indices_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        make().client(0).train[0] = 1


FEW = numpy.concatenate([TEST[TEST != 2], [2] * 4])  # class 2 has four test images

BAD: list[tuple[dict[str, object], str]] = [
    ({"kind": "dirichelt"}, r"split.kind: unknown kind 'dirichelt' \(did you mean dirichlet\?\)"),
    ({"arguments": {"sample": 3}}, r"split.sample: no argument of split.kind=iid \(did you mean samples\?\)"),
    ({"arguments": {"alpha": 3.0}}, "split.alpha: no argument of split.kind=iid; allowed: samples"),
    ({"kind": "pathological", "arguments": {"shard_size": 3}}, "split.shards_per_client: missing"),
    ({"kind": "pathological", "arguments": {"shard_size": 0, "shards_per_client": 2}}, "split.shard_size: got 0"),
    ({"kind": "pathological", "arguments": {"shard_size": 2.0, "shards_per_client": 2}}, "expected a whole number"),
    ({"kind": "pathological", "arguments": {"shard_size": True, "shards_per_client": 2}}, "got True"),
    ({"kind": "dirichlet", "arguments": {"alpha": 0.0}}, "split.alpha: got 0.0, expected a number above 0"),
    ({"kind": "dirichlet", "arguments": {"alpha": numpy.inf}}, "split.alpha: got inf"),
    ({"kind": "dirichlet", "arguments": {"alpha": numpy.nan}}, "split.alpha: got nan"),
    ({"kind": "lacking", "arguments": {"lacking": 4, "samples": 9}}, "split.lacking: got 4, allowed 0 to 3"),
    (
        {"kind": "lacking", "arguments": {"lacking": 1, "samples": 2}},
        "split.samples: got 2, expected at least 1 for each",
    ),
    ({"clients": 0}, "clients: got 0"),
    ({"test_per_class": 0}, "split.test_per_class: got 0"),
    (
        {"kind": "pathological", "arguments": {"shard_size": 30, "shards_per_client": 2}, "clients": 5},
        "5 clients x 2 = 10 shards, but 240 training samples make 8 shards of 30",
    ),
    ({"arguments": {"samples": 41}}, "6 clients x 41 = 246 samples, but there are 240 .*data.share=true"),
    ({"clients": 241, "share": True}, "clients: got 241, but there are 240 training samples"),
    ({"arguments": {"samples": 2**30}, "share": True}, "allowed 2147483647 in all"),
    (
        {"kind": "dirichlet", "arguments": {"alpha": 1.0, "min_samples": 41}},
        "6 clients x 41 = 246 samples, but there are 240",
    ),
    (
        {"kind": "dirichlet", "arguments": {"alpha": 0.01, "min_samples": 40}},
        "in 1000 draws with split.alpha=0.01 some of the 6 clients always had fewer than 40",
    ),
    ({"kind": "lacking", "arguments": {"lacking": 1, "samples": 300}}, "= 100 of each, but class . has .. training"),
    ({"arguments": {"samples": 1}}, "client 0 has 1 samples, 0 to train and 1 to validate"),
    ({"kind": "dirichlet", "arguments": {"alpha": 0.01, "min_samples": 0}}, "client . has 0 samples, 0 to train and 0"),
    ({"test_labels": FEW}, "split.test_per_class: got 5, but class 2 has 4 test images"),
    ({"test_labels": FEW, "kind": "dirichlet", "arguments": {"alpha": 9.0}}, "class 2 has 4 test images"),
    ({"test_labels": FEW, "kind": "lacking", "arguments": {"lacking": 2, "samples": 20}}, "class 2 has 4 test images"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_input_is_one_line_with_the_numbers(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("client", [-1, 6])
def test_client_out_of_range(client: int) -> None:
    with pytest.raises(InputError, match=f"client: got {client}, allowed 0 to 5"):
        make().client(client)


def test_test_images_are_asked_for_only_where_the_class_is_held() -> None:
    labels = numpy.repeat(numpy.arange(CLASSES), 60)
    shards = {"shards_per_client": 1, "shard_size": 60}
    for seed in range(20):
        held = int(stream(seed, 1).permutation(4)[0])
        if held == 2:
            with pytest.raises(InputError, match="class 2 has 4 test images"):
                make("pathological", shards, 1, train_labels=labels, test_labels=FEW, seed=seed)
        else:
            made = make("pathological", shards, 1, train_labels=labels, test_labels=FEW, seed=seed)
            assert set(TEST[made.client(0).test]) <= set(range(CLASSES))


def test_a_class_without_training_samples_is_no_obstacle() -> None:
    made = make(classes=6)
    assert_array_equal(made.client(0).train, make().client(0).train)
