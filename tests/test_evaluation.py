from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import Tensor, nn

from geodtr_lib.config import RunConfig, resolve_config
from geodtr_lib.data.base import ArrayDataset, PairDataset
from geodtr_lib.data.inputs import normalise, to_unit_range
from geodtr_lib.errors import ConfigError, DatasetError, GeoDTRError
from geodtr_lib.evaluation import embed, embed_dataset, evaluate, recall_interval, recall_within, retrieval_metrics, score
from geodtr_lib.evaluation.protocols import one_percent
from geodtr_lib.geometry import crop_field_of_view, heading_shifts, polar_transform
from geodtr_lib.training import resolve_machine


def unit(seed: int, n: int, d: int) -> Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def on_a_line(*similarities: float) -> Tensor:
    """Unit embeddings with these similarities to (1, 0)."""
    first = torch.tensor(similarities, dtype=torch.float64)
    return torch.stack([first, (1 - first**2).sqrt()], dim=1)


QUERY = torch.tensor([[1.0, 0.0]], dtype=torch.float64)

# Protocols


@pytest.mark.parametrize(
    ("protocol", "n", "k"),
    [("cvusa", 8884, 88), ("cvusa", 92802, 928), ("vigor", 90618, 907), ("vigor", 46563, 466), ("cvusa", 40, 1), ("vigor", 40, 1)],
)
def test_the_k_of_one_percent(protocol: str, n: int, k: int) -> None:
    assert one_percent(protocol, n) == k


@pytest.mark.parametrize("n", [3, 99, 250])
def test_perfect_and_worst_retrieval(n: int) -> None:
    gallery = unit(0, n, 64)
    perfect = retrieval_metrics(gallery, gallery, torch.arange(n))
    assert perfect == {"r1": 1.0, "r5": 1.0, "r10": 1.0, "r1pct": 1.0, "n_query": n, "n_gallery": n}
    # The farthest item of all is the positive.
    worst = retrieval_metrics(gallery, gallery, (gallery @ gallery.T).argmin(1))
    assert worst["r1"] == 0
    assert worst["r10"] == (n <= 10)


def test_recall_counts_queries_by_rank() -> None:
    gallery = on_a_line(*np.linspace(0.99, 0.01, 40))
    positive = torch.tensor([0, 1, 4, 5, 9, 10])
    found = retrieval_metrics(QUERY.expand(6, 2), gallery, positive)
    assert [found[key] for key in ("r1", "r5", "r10")] == pytest.approx([1 / 6, 3 / 6, 5 / 6])


def test_a_collapsed_model_scores_nothing_unless_ties_are_strict() -> None:
    same = unit(0, 1, 32).expand(150, 32)
    semi_positive = np.array([[(i + 1) % 150, (i + 2) % 150, (i + 3) % 150] for i in range(150)])
    collapsed = retrieval_metrics(same, same, np.arange(150), "vigor", semi_positive)
    assert all(collapsed[key] == 0 for key in ("r1", "r5", "r10", "r1pct", "hit_rate", "hit_rate_cover"))
    lenient = retrieval_metrics(same, same, np.arange(150), "vigor", semi_positive, ties="strict")
    assert all(lenient[key] == 1 for key in ("r1", "r5", "r10", "r1pct", "hit_rate", "hit_rate_cover"))


@pytest.mark.parametrize(
    ("similarities", "hit_rate", "cover"),
    [
        # gallery: positive, three semi-positives, two others
        ((0.9, 0.5, 0.4, 0.3, 0.2, 0.1), 1, 1),  # the positive first
        ((0.8, 0.9, 0.4, 0.3, 0.2, 0.1), 1, 1),  # only a semi-positive before it
        ((0.7, 0.9, 0.4, 0.3, 0.8, 0.1), 0, 1),  # a semi-positive first, but another tile before the positive
        ((0.7, 0.8, 0.4, 0.3, 0.9, 0.1), 0, 0),  # another tile first
        ((0.7, 0.8, 0.4, 0.3, 0.8, 0.1), 0, 0),  # another tile as near as the first
    ],
)
def test_hit_rate_as_released_and_by_cover(similarities: tuple[float, ...], hit_rate: int, cover: int) -> None:
    found = retrieval_metrics(QUERY, on_a_line(*similarities), [0], "vigor", np.array([[1, 2, 3]]))
    assert (found["hit_rate"], found["hit_rate_cover"]) == (hit_rate, cover)


def test_hit_rates_equal_a_direct_count() -> None:
    gallery, random = unit(0, 120, 8), np.random.default_rng(0)
    label = np.stack([random.permutation(120)[:4] for _ in range(80)])
    label[:10, 3] = label[:10, 2]  # labels that name a tile twice
    query = F.normalize(gallery[label[:, 0]] + 0.5 * gallery[label[:, 1]] + 0.9 * unit(1, 80, 8), dim=1)
    found = retrieval_metrics(query, gallery, label[:, 0], "vigor", label[:, 1:])
    similarities = (query.double() @ gallery.double().T).numpy()
    released = [label[i, 0] == next(j for j in (-row).argsort() if j not in label[i, 1:]) for i, row in enumerate(similarities)]
    assert found["hit_rate"] == pytest.approx(np.mean(released))
    assert found["hit_rate_cover"] == pytest.approx(np.mean([row.argmax() in label[i] for i, row in enumerate(similarities)]))
    assert found["r1"] <= found["hit_rate"] <= found["hit_rate_cover"]


def test_a_tile_that_a_label_names_twice_counts_once() -> None:
    found = retrieval_metrics(QUERY, on_a_line(0.8, 0.9, 0.4), [0], "vigor", np.array([[1, 1, 2]]))
    assert (found["r1"], found["hit_rate"], found["hit_rate_cover"]) == (0, 1, 1)


def test_semi_positives_stay_in_the_gallery_for_the_recalls() -> None:
    gallery = on_a_line(0.8, 0.9, 0.4, 0.3, 0.2)
    found = retrieval_metrics(QUERY, gallery, [0], "vigor", np.array([[1, 2, 3]]))
    assert (found["r1"], found["hit_rate"]) == (0, 1)
    assert "hit_rate" not in retrieval_metrics(QUERY, gallery, [0], "cvusa", np.array([[1, 2, 3]]))


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match="'pitts' is not known; allowed: cvusa, vigor"):
        retrieval_metrics(QUERY, QUERY, [0], "pitts")


# Within a radius


def test_recall_within_equals_a_direct_count() -> None:
    random = np.random.default_rng(0)
    gallery_position = random.uniform(0, 60, (300, 2))
    query_position = random.uniform(0, 60, (80, 2))
    query_position[:3] += 1000  # nothing near
    nearest = ((query_position[:, None] - gallery_position) ** 2).sum(-1).argmin(1)
    gallery = unit(0, 300, 12)
    gallery[150:200] = gallery[100:150]  # ties
    query = F.normalize(gallery[nearest] + 0.7 * unit(1, 80, 12), dim=1)
    similarities = (query.double() @ gallery.double().T).numpy()
    near = np.sqrt(((query_position[:, None] - gallery_position) ** 2).sum(-1)) <= 5
    for ties in ("against", "strict"):
        rank = []
        for row, right in zip(similarities, near, strict=True):
            best = row[right].max(initial=-np.inf)
            before = row[~right] > best - 1e-12 if ties == "against" else row[~right] > best + 1e-12
            rank.append(before.sum() if right.any() else len(row))
        found = recall_within(query, gallery, query_position, gallery_position, ties=ties)
        for key, k in (("r1", 1), ("r5", 5), ("r10", 10), ("r1pct", 3)):
            assert found[key] == pytest.approx(np.mean(np.array(rank) < k))
    assert 0 < found["r1"] < 1


def test_recall_within_a_tiny_radius_is_recall_of_the_place_itself() -> None:
    gallery = unit(0, 200, 16)
    query = F.normalize(gallery + 1.2 * unit(1, 200, 16), dim=1)
    position = np.random.default_rng(0).uniform(0, 1e4, (200, 2))
    assert recall_within(query, gallery, position, position, radius=0.0) == retrieval_metrics(query, gallery, np.arange(200))
    for n in (200, 4):  # nothing in the radius, also where all of the gallery is in the first ten
        assert recall_within(query[:n].numpy(), gallery[:n].numpy(), position[:n], position[:n] + 100)["r10"] == 0


def test_what_does_not_fit_is_refused() -> None:
    gallery, position = unit(0, 5, 4), np.zeros((5, 2))
    with pytest.raises(ValueError, match="no queries"):
        retrieval_metrics(gallery[:0], gallery, torch.arange(0))
    with pytest.raises(ValueError, match="5 queries at 4 positions"):
        recall_within(gallery, gallery, position[:4], position)


# Interval


@pytest.mark.parametrize(("right", "n"), [(0, 40), (1, 40), (20, 40), (40, 40), (612, 1000)])
def test_wilson_interval_equals_scipys(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert recall_interval(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="has no interval"):
        recall_interval(0.5, 0)
    with pytest.raises(ValueError, match="has no interval"):
        recall_interval(58.4, 100)


# Embeddings


class Averages(nn.Module):
    """Embeds an image by its colours in 4 parts of its width; counts what runs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.dropout = nn.Dropout(0.5)
        self.seen: dict[str, list[tuple[int, ...]]] = {"aerial": [], "ground": []}

    def _encode(self, view: str, images: Tensor) -> Tensor:
        self.seen[view].append(tuple(images.shape))
        parts = F.adaptive_avg_pool2d(images, (2, 4)).flatten(1)
        return F.normalize(self.dropout(parts * self.weight), dim=1)

    def encode_aerial(self, images: Tensor) -> Tensor:
        return self._encode("aerial", images)

    def encode_ground(self, images: Tensor) -> Tensor:
        return self._encode("ground", images)


def dataset(n: int = 23, side: int = 40, name: str = "city") -> ArrayDataset:
    """Panoramas that are the unrolled tiles, so that colours match."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.integers(0, 256, (n, 3, 5, 5), dtype=np.uint8))
    tiles = F.interpolate(coarse, (side, side), mode="nearest")
    position = random.uniform(0, 1000, (n, 2))
    return ArrayDataset(name, "here", "test", tiles.numpy(), polar_transform(tiles, (16, 64)).numpy(), "0" * 16, position=position)


def config(**values: object) -> RunConfig:
    return resolve_config("smoke", eval_batch_size=7, precision="fp32", **values)


def test_one_branch_runs_and_the_training_mode_comes_back() -> None:
    model, data = Averages().train(), dataset()
    first = embed(model, data, "aerial", (16, 64), batch_size=7)
    assert model.training
    assert model.seen == {"aerial": [(7, 3, 16, 64)] * 3 + [(2, 3, 16, 64)], "ground": []}
    assert first.shape == (23, 24)
    assert first.dtype == torch.float32
    assert not first.requires_grad
    assert torch.equal(first, embed(model, data, "aerial", (16, 64), batch_size=7))  # no dropout


def test_embeddings_do_not_depend_on_the_batch_and_are_those_of_the_prepared_images() -> None:
    model, data = Averages().eval(), dataset()
    found = embed(model, data, "ground", (16, 64), batch_size=5)
    expected = model.encode_ground(normalise(to_unit_range(data.ground(range(23))), "imagenet"))
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.allclose(embed(model, data, "ground", (16, 64), batch_size=100), found, atol=1e-6)
    reduced = embed(model, data, "ground", (8, 32), batch_size=5, normalisation="half")
    assert not torch.allclose(reduced, found, atol=1e-3)


def test_tiles_unrolled_offline_are_not_unrolled_again() -> None:
    model, data = Averages(), dataset()
    offline = ArrayDataset("cvusa", "cvusa", "test", polar_transform(data.aerial(range(23)), (16, 64)).numpy(), data.ground_array, "1" * 16)
    offline.aerial_is_polar = True
    assert torch.equal(embed(model, offline, "aerial", (16, 64)), embed(model, data, "aerial", (16, 64)))


def test_evaluation_of_matching_images_is_perfect_and_of_shuffled_ones_is_not() -> None:
    data = dataset()
    assert evaluate(Averages(), data, config())["r1"] == 1.0
    data.positive = np.roll(data.positive, 1)
    assert evaluate(Averages(), data, config())["r1"] == 0.0


class Projected(Averages):
    """With a product, which autocast computes in bf16."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(24, 8)

    def encode_ground(self, images: Tensor) -> Tensor:
        return F.normalize(self.project(super().encode_ground(images)), dim=1)

    encode_aerial = encode_ground


@pytest.mark.parametrize("native", [True, False])
def test_a_precision_left_to_the_machine_is_the_one_that_training_takes(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    model, data, given = Projected(), dataset(), config().replace(precision="auto", device="cpu")
    recorded = resolve_machine(given)
    assert recorded.precision == ("bf16" if native else "fp32")
    found = embed_dataset(model, data, given)
    assert torch.equal(found.query, embed_dataset(model, data, recorded).query)
    other = embed_dataset(model, data, given.replace(precision="fp32" if native else "bf16"))
    assert not torch.equal(found.query, other.query)


def test_unknown_heading_is_seeded_stored_and_harder() -> None:
    model, data = Averages(), dataset()
    turned = embed_dataset(model, data, config(heading="random"))
    assert torch.equal(turned.shift, heading_shifts(23, seed=0))
    assert torch.equal(turned.query, embed_dataset(model, data, config(heading="random", seed=9)).query)  # all runs meet the same headings
    rolled = torch.cat([crop_field_of_view(data.ground([i]), 360, turned.shift[i].item()) for i in range(23)])
    expected = model.eval().encode_ground(normalise(to_unit_range(rolled), "imagenet"))
    assert torch.allclose(turned.query, expected, atol=1e-6)
    assert score(turned, data)["r1"] < 0.7
    assert embed_dataset(model, data, config()).shift is None


def test_a_limited_field_of_view_reaches_the_ground_branch_only() -> None:
    model = Averages()
    evaluate(model, dataset(), config(fov=90.0))
    assert {shape[-1] for shape in model.seen["ground"]} == {16}
    assert {shape[-1] for shape in model.seen["aerial"]} == {64}


class ManyToOne(PairDataset):
    """Panoramas i of a data set, with tile 3 as the positive of the first four."""

    def __init__(self, source: ArrayDataset) -> None:
        self.source, self.name, self.area, self.split, self.hash = source, "vigor", "Seattle", "test", "2" * 16
        self.positive = np.array([3, 3, 3, 3, *range(4, 12)])
        self.semi_positive = np.stack([self.positive + 1, self.positive + 2, self.positive + 3], axis=1)
        self.query_ids, self.reference_ids = [str(i) for i in range(12)], source.reference_ids

    def ground(self, indices: object) -> Tensor:
        return self.source.ground(self.positive[np.asarray(indices)])

    def aerial(self, indices: object) -> Tensor:
        return self.source.aerial(indices)


def test_vigor_has_its_own_protocol_and_a_larger_gallery() -> None:
    found = evaluate(Averages(), ManyToOne(dataset()), config())
    assert found == {
        "r1": 1.0, "r5": 1.0, "r10": 1.0, "r1pct": 1.0, "n_query": 12, "n_gallery": 23, "hit_rate": 1.0, "hit_rate_cover": 1.0,
    }  # fmt: skip


def test_each_branch_of_a_vigor_evaluation_sees_its_own_images_once() -> None:
    model = Averages()
    evaluate(model, ManyToOne(dataset()), config())
    assert sum(shape[0] for shape in model.seen["ground"]) == 12  # the queries
    assert sum(shape[0] for shape in model.seen["aerial"]) == 23  # the references, however many queries share one


@pytest.mark.parametrize("view", ["ground", "aerial"])
def test_embedding_one_view_leaves_the_other_branch_alone(view: str) -> None:
    model = Averages()
    embed(model, ManyToOne(dataset()), view, (16, 64))
    assert {name for name, batches in model.seen.items() if batches} == {view}


@pytest.mark.parametrize("ties", ["against", "strict"])
@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_half_precision_screening_changes_no_metric(ties: str, noise: float) -> None:
    gallery, random = unit(0, 400, 64), np.random.default_rng(0)
    gallery[300:] = gallery[100:200]  # ties
    label = np.stack([random.permutation(400)[:4] for _ in range(250)])
    query = F.normalize(gallery[label[:, 0]] + noise * unit(1, 250, 64), dim=1)
    position = random.uniform(0, 100, (400, 2))
    for protocol, semi_positive in (("cvusa", None), ("vigor", label[:, 1:])):
        found = [retrieval_metrics(query, gallery, label[:, 0], protocol, semi_positive, ties, chosen) for chosen in ("fp32", "half")]
        assert found[0] == found[1]
        assert found[0]["r1"] > 0
        assert found[0]["r1"] < 1 or noise == 0.5
    near = [recall_within(query, gallery, position[label[:, 0]], position, 5.0, ties, chosen) for chosen in ("fp32", "half")]
    assert near[0] == near[1]


def test_the_protocol_within_5_m_needs_positions() -> None:
    data = dataset()
    assert evaluate(Averages(), data, config(), protocol="within_5m")["r1"] == 1.0
    data.query_position = None
    with pytest.raises(DatasetError, match="city here has no positions in metres"):
        evaluate(Averages(), data, config(), protocol="within_5m")
    with pytest.raises(ConfigError, match="allowed: cvusa, vigor, within_5m"):
        evaluate(Averages(), data, config(), protocol="5m")


def test_a_diverged_model_is_an_error_not_a_recall() -> None:
    model = Averages()
    model.weight.data.fill_(float("nan"))
    with pytest.raises(GeoDTRError, match="23 of 23 query embeddings are not finite"):
        evaluate(model, dataset(), config())


def test_an_error_while_reading_comes_through_and_the_mode_is_restored() -> None:
    class Broken(ArrayDataset):
        def ground(self, indices: object) -> Tensor:
            raise DatasetError("pano.jpg is truncated")

    whole = dataset()
    model = Averages().train()
    with pytest.raises(DatasetError, match=r"pano\.jpg"):
        embed(model, Broken("city", "a", "test", whole.aerial_array, whole.ground_array, "0"), "ground", (16, 64))
    assert model.training
    with pytest.raises(ConfigError, match="view: 'street' is not known"):
        embed(model, whole, "street", (16, 64))
