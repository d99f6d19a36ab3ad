"""The other methods and options in the harness: trained by name, resumed, evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodtr_lib.checkpoints import load_checkpoint
from geodtr_lib.config import RunConfig, resolve_config
from geodtr_lib.data import open_for
from geodtr_lib.data.covering import CoveringTiles, covering_tiles, turn_offset
from geodtr_lib.errors import ConfigError, DatasetError, GeoDTRError
from geodtr_lib.evaluation import embed_dataset, evaluate, nearest_references, rank_of, retrieval_metrics, score
from geodtr_lib.evaluation.embeddings import Embeddings
from geodtr_lib.evaluation.limited_view import LimitedView
from geodtr_lib.evaluation.matched import matched_metrics, matched_ranks, matched_top_k
from geodtr_lib.geometry import layout_aerial
from geodtr_lib.models import MODELS, build_model
from geodtr_lib.objective import Beside, TwoCores, backward, loss_names
from geodtr_lib.trainer import Trainer
from geodtr_lib.training import resolve_machine, run

QUICK: dict[str, Any] = dict(
    preset="smoke", epochs=2, n_train=24, n_test=20, batch_size=8, test_areas=["midrise"], device="cpu", precision="fp32", dropout=0.0
)
BASELINES = sorted(set(MODELS) - {"geodtr"})


def trainer(**values: Any) -> Trainer:
    config = resolve_machine(resolve_config(**{**QUICK, **values}))
    return Trainer(config, open_for(config, "midrise", "train"))


def train(found: Trainer, epochs: int) -> list[float]:
    losses = []
    found.model.train()
    for epoch in range(epochs):
        batches = found.batches(epoch)
        for step, (aerial, ground, *covering) in found.epoch_views(batches, epoch):
            beside = found.beside(batches[step][0], epoch, step, *covering)
            losses.append(float(found.train_step(aerial, ground, epoch, step, beside)["triplet_loss"]))
    return losses


# Configuration


def test_each_method_is_trained_as_its_paper_says_unless_told_otherwise() -> None:
    safa = resolve_config("smoke", model="safa")
    assert (safa.sampling, safa.loss, safa.counterfactual_weight, safa.batches) == ("raw", "triplet", 0.0, "random")
    sampled = resolve_config("smoke", model="sample4geo")
    assert (sampled.loss, sampled.learn_temperature, sampled.temperature, sampled.label_smoothing) == ("infonce", True, 0.07, 0.1)
    assert (sampled.sampling, sampled.batches) == ("LS", "similar")
    other = resolve_config("smoke", model="sample4geo", loss="triplet", sampling="L+S")
    assert (other.loss, other.learn_temperature, other.sampling) == ("triplet", False, "L+S")
    assert resolve_config("smoke", model="vigor").overlap_weight == 0.1
    assert resolve_config("smoke", model="vigor", dataset="cvusa", data_root="x").overlap_weight == 0
    assert resolve_config("smoke").counterfactual_weight == 1.0, "the paper's own stays"
    assert RunConfig(**sampled.to_dict()) == sampled


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(model="safa", counterfactual_weight=1.0), "counterfactual_weight: 1.0 needs the descriptors of model='geodtr'"),
        (dict(learn_temperature=True), "learn_temperature: True needs loss='infonce'"),
        (dict(overlap_weight=0.1), "only model='vigor'"),
        (dict(consistency_weight=1.0, sampling="LS"), "sampling 'LS' has one"),
        (dict(consistency_weight=1.0, heading="random"), "looks elsewhere"),
        (dict(heading="random", sampling="L+S4"), r"sampling: 'L\+S4' needs heading='north'"),
        (dict(batches="hard"), "batches: 'hard' is not possible; allowed: 'random', 'near', 'similar'"),
    ],
)
def test_impossible_combinations_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_config("smoke", **values)


def test_a_shared_backbone_is_geodtr_s_option() -> None:
    with pytest.raises(ConfigError, match="share_backbone: True is an option of model 'geodtr'"):
        build_model(resolve_config("smoke", model="safa", share_backbone=True))


# Training


@pytest.mark.parametrize("name", BASELINES)
def test_every_method_learns_the_city(name: str) -> None:
    """Well above chance (1 / 24) on places that it was trained on, in seconds. NetVLAD's residuals and a
    transformer's class token are alike for all images at first, and learn slowly."""
    steps = 40 if name in ("cvm_net", "cvm_net_ii", "l2ltr") else 15
    found = trainer(model=name, sampling="raw", batches="random", batch_size=24, epochs=steps, lr=2e-3, warmup_epochs=2)
    losses = train(found, steps)
    assert np.isfinite(losses).all()
    assert evaluate(found.model, found.data, found.config)["r1"] > 0.2


@pytest.mark.parametrize(
    "values",
    [
        dict(model="sample4geo"),
        dict(model="vigor", sampling="L+S", polar=False),
        dict(model="dsm", fov=90, heading="random"),
        dict(model="safa", loss="highlighted", sampling="L+S"),
        dict(loss="infonce", learn_temperature=True, share_backbone=True, consistency_weight=0.1, batches="similar", sampling="L+S3"),
    ],
    ids=lambda values: str(values.get("model", "geodtr")),
)
def test_a_run_by_name_is_recorded_and_read_back(values: dict[str, Any], tmp_path: Path) -> None:
    given = {**QUICK, **values, "run_dir": str(tmp_path)}
    metrics = run(given, progress=False)
    config = RunConfig(**metrics["config"])
    for name in loss_names(config):
        assert len(metrics["train"][name]) == 2
        assert np.isfinite(metrics["train"][name]).all()
    assert metrics["train"]["parameters"] == sum(p.numel() for p in load_checkpoint(tmp_path).parameters())
    again = evaluate(load_checkpoint(tmp_path), open_for(config, "midrise", "test"), config)
    assert again["r1"] == metrics["evaluation"]["midrise"]["r1"]
    assert run(given, progress=False) == metrics


def test_hard_batches_resume_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = dict(model="sample4geo", epochs=2, checkpoint_minutes=1e-9)
    whole = run({**QUICK, **values, "run_dir": str(tmp_path / "whole")}, progress=False)
    original, calls = Trainer.train_step, []

    def stops(self: Trainer, *arguments: Any) -> Any:
        if len(calls) == 5:  # within the second epoch, whose batches hang on the weights of its start
            raise KeyboardInterrupt
        calls.append(arguments)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", stops)
        with pytest.raises(KeyboardInterrupt):
            run({**QUICK, **values, "run_dir": str(tmp_path / "cut")}, progress=False)
    resumed = run({**QUICK, **values, "run_dir": str(tmp_path / "cut")}, progress=False)
    assert resumed["train"]["loss"] == whole["train"]["loss"]
    assert resumed["evaluation"] == whole["evaluation"]


def test_similar_batches_follow_the_model() -> None:
    found = trainer(batches="similar", epochs=3)
    first = found.batches(0)
    near = trainer(batches="near").batches(0)
    assert [batch.tolist() for batch, _ in first] == [batch.tolist() for batch, _ in near], "before anything is learnt, near places"
    second = found.batches(1)
    assert sorted(np.concatenate([batch for batch, _ in second]).tolist()) == list(range(24))
    embeddings = embed_dataset(found.model.eval(), found.data, found.config)
    order = (embeddings.query @ embeddings.reference.T).argsort(dim=1, descending=True)
    anchor = int(second[0][0][0])
    closest = next(int(reference) for reference in order[anchor] if int(reference) != anchor)
    assert closest in second[0][1]
    kept = found.neighbours(1)
    with torch.no_grad():
        for parameter in found.model.parameters():
            parameter.add_(0.1)
    assert (found.neighbours(1) == kept).all(), "one table for an epoch"


# The objective's parts


def test_two_cores_give_a_learnt_temperature_and_consistency_the_same_gradients() -> None:
    config = resolve_config(
        "smoke", dropout=0.0, precision="fp32", device="cpu", loss="infonce", learn_temperature=True, consistency_weight=0.5
    )
    torch.manual_seed(0)
    model = build_model(config).train()
    aerial, ground = torch.randn(2, 4, 3, *config.ground_size, generator=torch.Generator().manual_seed(1))
    beside = Beside(torch.tensor([[True, False], [False, False]]), torch.tensor([[0, 1], [2, 3]]))

    def generators() -> tuple[torch.Generator, torch.Generator]:
        return torch.Generator().manual_seed(2), torch.Generator().manual_seed(3)

    expected = backward(model, aerial, ground, config, generators(), beside)
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    cores = TwoCores()
    found = cores.backward(model, aerial, ground, config, generators(), beside)
    cores.close()
    assert set(expected) == set(found) == set(loss_names(config))
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4), name
    assert "log_scale" in gradients
    for name, gradient in gradients.items():
        torch.testing.assert_close(dict(model.named_parameters())[name].grad, gradient, rtol=1e-3, atol=1e-5)


def test_what_draws_in_the_branches_stays_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert trainer(model="sample4geo", backbone="resnet18_small").two_cores is None
    assert trainer(dropout=0.0).two_cores is not None
    assert trainer(dropout=0.1).two_cores is None
    assert trainer(dropout=0.0, backbone="convnext_tiny").two_cores is None, "stochastic depth"


def test_only_independent_branches_go_on_two_cores() -> None:
    def independent(**values: Any) -> bool:
        return build_model(resolve_config("smoke", **values)).independent

    assert independent()
    assert independent(model="safa")
    assert not independent(share_backbone=True)
    assert not independent(model="sample4geo")
    assert not independent(model="cvm_net")


def test_a_shared_backbone_is_one_set_of_weights() -> None:
    shared = build_model(resolve_config("smoke", share_backbone=True))
    apart = build_model(resolve_config("smoke"))
    saved = sum(p.numel() for p in apart.parameters()) - sum(p.numel() for p in shared.parameters())
    assert saved == sum(p.numel() for p in apart.aerial_branch.backbone.parameters())


# Tiles off the centre


@pytest.mark.parametrize("weight", ["overlap", "offset"])
def test_either_loss_of_covering_tiles_alone(weight: str, tmp_path: Path) -> None:
    other = {"overlap": "offset_weight", "offset": "overlap_weight"}[weight]
    metrics = run({**QUICK, "model": "vigor", other: 0.0, "epochs": 1, "run_dir": str(tmp_path)}, progress=False)
    assert metrics["train"][f"{weight}_loss"][0] > 0
    assert other.replace("weight", "loss") not in metrics["train"]


def test_covering_tiles_show_the_place_where_they_say() -> None:
    found = trainer(model="vigor")
    tiles = found.covering
    assert isinstance(tiles, CoveringTiles)
    position = np.asarray(found.data.query_position)[:, :2]
    assert (tiles.reference[:, 0] == found.data.positive).all()
    assert (np.abs(tiles.offset) < 1).all()
    assert not tiles.offset[:, 0].any(), "rendered places are at the centre of their tiles"
    east_north = position[tiles.reference] - position[:, None]
    assert tiles.offset == pytest.approx(east_north[..., ::-1] / 36)
    alone = tiles.reference[:, 1:] == tiles.reference[:, :1]
    distance = np.abs(position[:, None] - position[None]).max(2) + 1e6 * np.eye(len(position))
    assert (alone[:, 0] == (distance.min(1) >= 36)).all(), "only a place that no other tile shows has no other"


def test_a_data_set_without_positions_has_no_other_tiles() -> None:
    data = trainer().data
    data.query_position = None
    with pytest.raises(DatasetError, match="set overlap_weight and offset_weight to 0"):
        covering_tiles(data)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_offsets_turn_with_their_tile(flip: bool, turns: int) -> None:
    """A camera marked in a tile is found, after a layout, where the turned offset says."""
    side, offset = 9, np.array([0.5, -0.25])  # the centre lies north and west of the camera

    def marked(at: np.ndarray) -> tuple[int, int]:
        return round(4 + at[0] * 4), round(4 - at[1] * 4)  # the camera lies the other way: south is down, west is left

    tile = torch.zeros(1, 1, side, side)
    tile[(0, 0, *marked(offset))] = 1
    turned = layout_aerial(tile, flip, turns)
    expected = marked(turn_offset(offset, np.array(flip), np.array(turns)))
    assert divmod(int(turned.argmax()), side) == expected


# Evaluation


def plain(reference: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    return reference @ query.T


def test_recalls_under_a_similarity_are_those_of_the_exact_ranking() -> None:
    draw = torch.Generator().manual_seed(0)
    reference = torch.nn.functional.normalize(torch.randn(50, 8, generator=draw), dim=1)
    query = torch.nn.functional.normalize(reference[:30] + 0.8 * torch.randn(30, 8, generator=draw), dim=1)
    positive = np.arange(30)
    semi = (positive[:, None] + np.array([7, 11, 13])) % 50
    for ties in ("against", "strict"):
        exact = retrieval_metrics(query, reference, positive, "cvusa", None, ties)
        assert matched_metrics(query, reference, list(positive[:, None]), plain, "cvusa", ties, block=7) == pytest.approx(exact)
        exact = retrieval_metrics(query, reference, positive, "vigor", semi, ties)
        cover = list(np.column_stack([positive, semi]))
        assert matched_metrics(query, reference, cover, plain, "vigor", ties, semi=True) == pytest.approx(exact)
    embeddings = Embeddings(query, reference, None, plain)
    assert torch.equal(rank_of(embeddings, positive), rank_of(Embeddings(query, reference), positive))
    assert torch.equal(nearest_references(embeddings, 3)[1], nearest_references(Embeddings(query, reference), 3)[1])


def test_a_collapsed_model_ranks_last_under_a_similarity_too() -> None:
    same = torch.ones(5, 2) / 2**0.5
    right = list(np.arange(5)[:, None])
    assert matched_ranks(same, same, right, plain).tolist() == [4] * 5
    assert matched_ranks(same, same, right, plain, "strict").tolist() == [0] * 5
    assert matched_ranks(same, same, [np.array([], dtype=int)] * 5, plain).min() > 10**9


@pytest.mark.parametrize(("side", "what"), [("query", "1 of 5 query embeddings"), ("reference", "1 of 5 gallery embeddings")])
def test_embeddings_that_are_not_finite_are_refused_under_a_similarity_too(side: str, what: str) -> None:
    """Comparisons with NaN are all false: every query would be found."""
    sides = {"query": torch.eye(5), "reference": torch.eye(5)}
    sides[side][1, 2] = torch.nan
    query, reference, right = sides["query"], sides["reference"], list(np.arange(5)[:, None])
    for call in (
        lambda: matched_ranks(query, reference, right, plain),
        lambda: matched_metrics(query, reference, right, plain),
        lambda: matched_top_k(query, reference, 2, plain),
    ):
        with pytest.raises(GeoDTRError, match=f"^{what} are not finite; the model diverged"):
            call()


def test_similarities_that_are_not_finite_are_refused() -> None:
    def broken(reference: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        return plain(reference, query) / query[:, 0]  # the other queries have a zero there

    same, right = torch.eye(3), list(np.arange(3)[:, None])
    for call in (lambda: matched_ranks(same, same, right, broken), lambda: matched_top_k(same, same, 1, broken)):
        with pytest.raises(GeoDTRError, match="^2 of 3 queries' similarities are not finite; the model diverged"):
            call()


def test_dsm_is_evaluated_by_its_best_slide_and_its_limited_view_too() -> None:
    config = resolve_config(**{**QUICK, "model": "dsm", "heading": "random"})
    torch.manual_seed(0)
    model, test = build_model(config).eval(), open_for(config, "midrise", "test")
    embeddings = embed_dataset(model, test, config)
    assert embeddings.similarity == model.similarity
    every = model.similarity(embeddings.reference, embeddings.query)
    best = (every.argmax(0).numpy() == test.positive).mean()
    assert score(embeddings, test)["r1"] == pytest.approx(best)
    narrow = embed_dataset(LimitedView(model, config.ground_size[1]), test, config.replace(fov=180.0))
    assert narrow.similarity == model.similarity
    assert narrow.query.shape == embeddings.query.shape
