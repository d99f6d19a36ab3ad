"""Looking into a run: what is asked agrees with plain computation, and what cannot be answered is told in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from permissions import unreadable
from PIL import Image
from small_town import make_run, make_town

from geodtr_lib import data, explore
from geodtr_lib.checkpoints import save_released_checkpoint
from geodtr_lib.data.inputs import prepare_ground
from geodtr_lib.data.photographed import open_photographed
from geodtr_lib.data.photos import mean_colour
from geodtr_lib.data.scenes import Weather
from geodtr_lib.errors import CheckpointError, ConfigError, DatasetError, RunError
from geodtr_lib.evaluation import embed_dataset, evaluate, ranks
from geodtr_lib.explore import Choice, Pose, Session
from geodtr_lib.explore.__main__ import main
from geodtr_lib.explore.overlays import overlay, roll_up
from geodtr_lib.explore.page import page
from geodtr_lib.explore.photographs import rank_summary
from geodtr_lib.explore.runs import areas_of, shipped_folder
from geodtr_lib.explore.ship import SHIPPED, pack
from geodtr_lib.files import read_json
from geodtr_lib.geometry import polar_transform
from geodtr_lib.models import GeoDTR, build_model
from geodtr_lib.study.status import status
from geodtr_lib.study.trained import Trained, open_trained

TILES = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs in a small town."""
    folder = tmp_path_factory.mktemp("explore")
    town = make_town(folder)
    make_run(folder / "chsg", town)
    make_run(folder / "raw", town, "raw", seed=1)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Trained:
    return open_trained(folder / "chsg")


@pytest.fixture(scope="module")
def session(trained: Trained) -> Session:
    return Session(trained)


# Asking


def test_a_look_agrees_with_the_evaluation(session: Session) -> None:
    found = embed_dataset(session.model, session.dataset, session.config.replace(precision="fp32"))
    rank = 1 + ranks(found.query, found.reference, session.dataset.positive)
    for place in (0, 7, 23):
        look = session.look(session.panorama(place), positive=place, k=TILES)
        distance = ((found.query[place] - found.reference) ** 2).sum(1)
        assert look.rank == rank[place]
        assert look.to_positive == pytest.approx(float(distance[place]), abs=1e-4)
        assert np.allclose(look.distance, np.sort(distance.numpy()), atol=1e-4)
        assert look.metres[look.index == place] == 0
        assert look.descriptors.shape[0] == 3


def test_a_curve_is_the_looks_at_its_angles(session: Session) -> None:
    picture = session.panorama(5)
    curve = session.curve(picture, positive=5, step=45.0)
    assert curve.angle.tolist() == list(range(-180, 180, 45))
    for row, mirrored in enumerate((False, True)):
        for angle, distance in zip(curve.angle, curve.distance[row], strict=True):
            look = session.look(picture, Pose(float(angle), mirrored), positive=5)
            assert distance == pytest.approx(look.to_positive, abs=1e-4)
    nearest = session.curve(picture, step=45.0)
    assert (nearest.distance <= curve.distance + 1e-4).all(), "without a known tile it is the nearest at each angle"


def test_turning_the_panorama_moves_its_curve_and_the_estimate_follows(session: Session) -> None:
    """A panorama rolled by 90 degrees has the same curve, 90 degrees later; the estimated heading tells the roll."""
    picture = session.panorama(2)
    curve = session.curve(picture, positive=2)
    rolled = torch.roll(picture, -picture.shape[-1] // 4, dims=-1)  # its middle looks east
    turned = session.curve(rolled, positive=2)
    assert np.allclose(np.roll(turned.distance[0], 9), curve.distance[0], atol=1e-4)
    best = curve.best()
    assert curve.estimated_heading(best) == 0
    assert curve.estimated_heading(best + 40) == pytest.approx((40 + 180) % 360 - 180)
    assert -180 <= curve.estimated_heading(170.0) < 180


def test_what_is_shown_is_what_the_model_gets(session: Session) -> None:
    picture = session.panorama(1)
    shown = session.look(picture, Pose(fov=90.0)).shown
    width = picture.shape[-1]
    assert torch.equal(shown[..., width * 3 // 8 : width * 5 // 8], picture[..., width * 3 // 8 : width * 5 // 8])
    assert shown[:, 0, 0].tolist() == mean_colour().tolist()
    assert torch.equal(session.look(picture, Pose(mirrored=True)).shown, picture.flip(-1))
    assert torch.equal(session.look(picture, Pose(heading=90.0)).shown, torch.roll(picture, -width // 4, dims=-1))


def test_impossible_questions_are_told(session: Session, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no place 24; there are 24"):
        session.panorama(24)
    with pytest.raises(ConfigError, match="field of view 0 is not possible"):
        Pose(fov=0.0)
    with pytest.raises(ConfigError, match="no descriptor 4; there are 3"):
        explore.answer(session, Choice(descriptor=4))
    with pytest.raises(DatasetError, match="osm area 'atlantis'"):
        Session(open_trained(folder / "chsg"), "osm:atlantis")
    with pytest.raises(RunError, match="is no folder of a finished run"):
        explore.open_run(tmp_path)


# Showing


def test_an_answer_says_all_in_words(session: Session) -> None:
    answer = explore.answer(session, Choice(3, pose=Pose(40.0), descriptor=2))
    look = session.look(session.panorama(3), Pose(40.0), 3)
    assert answer.title == "CHSG, trained on gridtown"
    assert answer.sentence.startswith(f"true tile is number {look.rank} of {TILES}, distance {look.to_positive:.2f}; turned to 40°")
    assert [found.right for found in answer.found] == [index == 3 for index in look.index]
    html = page([answer, answer])
    assert html.count("<section") == 2
    assert html.count("<img") == html.count(" alt=") == 2 * 8
    assert answer.sentence in html
    assert "Squared distance to the true tile" in html


def test_an_overlay_changes_the_pictures_and_none_leaves_them(session: Session) -> None:
    plain, laid = (explore.answer(session, Choice(0, descriptor=number)) for number in (0, 1))
    assert torch.equal(plain.tile, session.tile(0))
    for before, after in ((plain.panorama, laid.panorama), (plain.unrolled, laid.unrolled), (plain.tile, laid.tile)):
        assert before.shape == after.shape
        assert not torch.equal(before, after)


def test_a_picture_of_one_s_own_has_no_truth(session: Session) -> None:
    answer = explore.answer(session, Choice(own=session.panorama(4)))
    assert answer.compared == "nearest"
    assert "nearest of 24 tiles has distance" in answer.sentence
    assert {found.right for found in answer.found} == {None}
    assert explore.draw(session, Choice(own=session.panorama(4))) is not None


def test_rolling_up_undoes_the_polar_transform() -> None:
    side, size = 64, (64, 256)
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    smooth = torch.sin(row / 9.0) + torch.cos(column / 11.0)
    back = roll_up(polar_transform(smooth[None, None], size)[0, 0], side)
    inside = torch.hypot(row - 32.0, column - 32.0) < 30
    assert (back - smooth)[inside].abs().max() < 0.06
    corners = torch.hypot(row - 32.0, column - 32.0) > 33
    assert back[corners].isnan().all()
    assert overlay(torch.rand(2, 8), torch.rand(2, 2), (16, 64), 32, polar=False).unrolled.shape == (16, 64)


# Many


def test_curves_of_many_tell_a_model_that_knows_the_heading_from_one_that_does_not() -> None:
    angle = np.arange(-180.0, 180.0, 10.0)
    sharp = np.stack([np.stack([1 - np.exp(-((angle / 20) ** 2)), np.ones(36)])] * 12)
    flat = np.random.default_rng(0).uniform(0.9, 1, (12, 2, 36))
    table = explore.heading_table({"sharp": (angle, sharp), "flat": (angle, flat)}).set_index("run")
    assert table.loc["sharp", "heading within 10°"] == 1
    assert table.loc["flat", "heading within 10°"] < 0.5
    assert table.loc["sharp", "chance"] == pytest.approx(3 / 36)
    assert table.loc["sharp", "contrast"] > 0.8
    assert abs(table.loc["flat", "contrast"]) < 0.1
    assert table.loc["sharp", "mirrored minus as it is"] == 1


def test_tables_of_views_and_weathers_are_recalls_with_intervals(session: Session) -> None:
    views = explore.field_of_view_table({"run": session}, (360, 90), n=6)
    weathers = explore.weather_table({"run": session}, n=6)
    own = [session.look(session.panorama(place), positive=place).rank == 1 for place in range(6)]
    assert views["r1"][0] == weathers["r1"][0] == np.mean(own)
    for table in (views, weathers):
        assert (table["low"] <= table["r1"] + 1e-9).all()
        assert (table["r1"] <= table["high"] + 1e-9).all()
        assert set(table["n"]) == {6}
        assert set(table["chance"]) == {1 / TILES}
    curves = explore.turning_curves({"run": session}, 4, step=90.0)
    assert curves["run"][1].shape == (4, 2, 4)


# Localizing


@pytest.fixture(scope="module")
def localizer(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> explore.Localizer:
    return explore.Localizer(trained, "gridtown", spacing=30.0, path=tmp_path_factory.mktemp("gallery") / "g.parquet")


def test_a_panorama_is_located_in_metres(localizer: explore.Localizer) -> None:
    located = localizer.locate(3, 4)
    assert located.truth is not None
    east, north = (localizer.map.metres(located.candidates.location) - localizer.map.metres(located.truth)).T
    assert np.allclose(np.hypot(east, north), located.metres, rtol=1e-3)
    assert localizer.errors[3] == pytest.approx(located.metres[0])
    table = localizer.table()
    assert set(table["protocol"]) == {"same"}
    assert set(table["n"]) == {TILES}
    assert (table["best"][:2] < 30).all(), "a tile is never far"
    shown = explore.compare_areas([localizer])
    assert shown.shape == (5, 3)
    assert all("[" in cell for cell in shown.iloc[:, 0])


def test_a_picture_of_one_s_own_is_located_as_the_query_is(localizer: explore.Localizer) -> None:
    picture = localizer.queries.ground([5])[0]
    own, query = localizer.locate(picture, 3), localizer.locate(5, 3)
    assert own.truth is None
    assert own.candidates.index.tolist() == query.candidates.index.tolist()
    with pytest.raises(ConfigError, match="no query 24; there are 24"):
        localizer.locate(24)


def test_a_kept_gallery_is_read_back_and_one_of_another_run_refused(localizer: explore.Localizer, folder: Path) -> None:
    before = localizer.path.stat().st_mtime_ns
    again = explore.Localizer(localizer.trained, "gridtown", spacing=30.0, path=localizer.path)
    assert localizer.path.stat().st_mtime_ns == before
    assert torch.equal(again.gallery.embedding, localizer.gallery.embedding)
    with pytest.raises(CheckpointError, match="was made with model .*; build it again with this model"):
        explore.Localizer(open_trained(folder / "raw"), "gridtown", spacing=30.0, path=localizer.path)
    with pytest.raises(DatasetError, match="holds other tiles"):
        explore.Localizer(localizer.trained, "gridtown", spacing=40.0, path=localizer.path)
    assert localizer.path.stat().st_mtime_ns == before, "the file is left alone"


def test_a_kept_gallery_of_other_tiles_is_made_again(trained: Trained) -> None:
    few, all_of_them = (explore.Localizer(trained, "gridtown", {"n_test": n}, tiles="places") for n in (6, TILES))
    assert few.path == all_of_them.path
    assert (len(few.gallery), len(all_of_them.gallery)) == (6, TILES)
    assert all_of_them.table()["best"][0] == 0
    all_of_them.path.unlink()


def test_places_as_tiles_are_the_queries_own(trained: Trained, tmp_path: Path) -> None:
    found = explore.Localizer(trained, "gridtown", tiles="places", path=tmp_path / "g.parquet")
    assert len(found.gallery) == TILES
    assert found.table()["best"][0] == 0
    with pytest.raises(ConfigError, match="tiles: 'roofs' is not known; allowed: streets, places"):
        explore.Localizer(trained, "gridtown", tiles="roofs")  # type: ignore[arg-type]


# Limited view


@pytest.fixture(scope="module")
def narrow(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model of 90 degrees and unknown heading."""
    return open_trained(make_run(tmp_path_factory.mktemp("narrow"), folder / "gridtown.osm.pbf", seed=3, fov=90.0, heading="random"))


def test_a_model_of_limited_view_is_localized_as_it_is_evaluated(narrow: Trained, trained: Trained, tmp_path: Path) -> None:
    found = explore.Localizer(narrow, "gridtown", tiles="places", path=tmp_path / "g.parquet")
    config = found.config.replace(data_seed=found.config.seed, precision="fp32")
    assert torch.allclose(found.embedding, embed_dataset(narrow.model, found.queries, config).query, atol=1e-6)
    assert len(found.table()) == 5
    assert found.panorama(3).shape == (3, 16, 16)
    with torch.inference_mode():
        asked = narrow.model.encode_ground(prepare_ground(found.panorama(3)[None], (16, 16)))
    assert torch.allclose(asked[0], found.embedding[3], atol=1e-6)
    # One that was made for more is given the mean colour for the rest.
    less = explore.Localizer(trained, "gridtown", {"fov": 90.0}, tiles="places", path=tmp_path / "less.parquet")
    assert not trained.model.training
    look = Session(trained).look(less.queries.ground([3])[0], Pose(fov=90.0), 3)
    assert np.allclose(less.locate(3).candidates.distance, look.distance, atol=1e-4)


def test_a_photo_is_cut_out_where_it_looks_for_a_model_of_limited_view(
    narrow: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photographs(tmp_path)
    seen: list[torch.Tensor] = []
    encode = narrow.model.encode_ground
    monkeypatch.setattr(narrow.model, "encode_ground", lambda images: (seen.append(images), encode(images))[1])
    table = explore.photographed_ranks(narrow, tmp_path, fov=100.0)
    assert table["rank"].between(1, 4).all()
    (given,) = seen
    assert given.shape == (4, 3, 16, 16)
    assert (given[:, :, 8].abs().sum(1) > 0.1).all(), "nothing of the horizon is unseen"


# Runs


def test_runs_are_found_and_a_pair_is_one_with_chsg_and_one_without(folder: Path, tmp_path: Path) -> None:
    own = [run for run in explore.find_runs(folder) if run.folder.is_relative_to(folder)]
    assert {run.label for run in own} == {"CHSG, gridtown (chsg)", "raw, gridtown (raw)"}
    first, second = explore.default_pair(own)
    assert second is not None
    assert (first.config.sampling, second.config.sampling) == ("L+S", "raw")
    assert explore.choose_pair(str(folder / "raw"), "none")[1] is None
    assert areas_of(first.config)[0] == "osm:gridtown"
    assert {"osm:monaco", "city:oldtown"} <= set(areas_of(first.config))
    with pytest.raises(RunError, match="there are no trained runs; train one: python -m geodtr_lib.explore train"):
        explore.default_pair([])


def test_folders_that_may_not_be_read_are_told_in_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "inside").mkdir(parents=True)
    for ask in (explore.find_runs, status):
        for path in (tmp_path / "runs", tmp_path / "runs" / "inside"):
            with unreadable(tmp_path / "runs"), pytest.raises(RunError, match=r"runs.* cannot be read: permission denied") as caught:
                ask(path)
            assert "\n" not in str(caught.value)


def test_folders_of_runs_may_be_named_from_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert {"chsg", "raw"} <= set(status("~/").runs["run"])
    assert explore.open_run("~/chsg").folder == folder / "chsg"


def test_a_released_checkpoint_becomes_a_run_that_everything_takes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    size = (16, 128)
    model = GeoDTR("resnet34", gle="v1", n_desc=2, ground_size=size, aerial_size=size, heads=2, ffn_width=16)
    save_released_checkpoint(model, tmp_path / "released", dataset="VIGOR")
    run, words = tmp_path / "run", ["convert", str(tmp_path / "released"), str(tmp_path / "run")]
    assert main(words) == 1
    assert "trained_on: " in (told := capsys.readouterr().err)
    assert "does not tell where it was trained; say it: cvusa, cvact, vigor:same, vigor:cross" in told
    assert main([*words, "--trained-on", "vigor:same"]) == 0
    assert capsys.readouterr().out.strip() == str(run)
    again = open_trained(run)
    first = open_trained(checkpoint=tmp_path / "released", trained_on="vigor:same")
    assert again.trained_on == first.trained_on == "vigor:same"
    assert again.config.replace(run_dir="") == first.config
    assert all(torch.equal(value, first.model.state_dict()[name]) for name, value in again.model.state_dict().items())
    opened, second = explore.choose_pair(run, "none")
    assert (opened.folder, second) == (run, None)
    given = {"data_root": str(folder / "gridtown.osm.pbf"), "n_test": 4, "tile_size": 32, "options": {"resolution": 1.0}}
    assert Session(again, "osm:gridtown", given).look(torch.zeros(3, *size, dtype=torch.uint8)).shown.shape == (3, *size)
    assert len(explore.Localizer(again, "gridtown", given, tiles="places").table()) == 5
    photographs = ["photographs", str(make_photographs(tmp_path)), "--tile-metres", "72", "--run", str(run)]
    assert main(photographs) == 0
    assert "chance_r1" in capsys.readouterr().out
    assert main([*words, "--trained-on", "cvusa"]) == 1
    assert f"{run} holds a run already; choose another folder" in capsys.readouterr().err
    for file in (*tmp_path.rglob("*.pth"), *tmp_path.rglob("*.safetensors")):
        file.unlink()


def test_what_a_bare_file_does_not_tell_is_said_when_it_becomes_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = GeoDTR("resnet34", gle="v1", n_desc=2, ground_size=(16, 128), aerial_size=(32, 64), heads=2, ffn_width=16)
    save_released_checkpoint(model, tmp_path / "released")
    bare = next(tmp_path.rglob("*.pth")).rename(tmp_path / "bare.pth")
    convert = ["convert", str(bare), str(tmp_path / "run"), "--trained-on", "cvact"]

    def told(*values: str) -> str:
        assert main([*convert, *(word for value in values for word in ("--set", value))]) == 1
        return capsys.readouterr().err

    assert "no known image size gives 8 positions" in told()
    assert told("n_desc=2").startswith("ConfigError: n_desc: the checkpoint tells it")
    assert "allowed: aerial_size, ground_size, heads, bottleneck, normalisation" in told("n_desc=2")
    assert told("heads=none").startswith("ConfigError: heads: ")
    assert told("normalisation=zero").startswith("ConfigError: normalisation: ")
    assert not (tmp_path / "run").exists()
    known = ["ground_size=[16, 128]", "aerial_size=[32, 64]", "heads=2", "normalisation=imagenet"]
    assert main([*convert, *(word for value in known for word in ("--set", value))]) == 0
    again = open_trained(tmp_path / "run")
    assert isinstance(again.model, GeoDTR)
    assert (again.model.ground_size, again.model.aerial_size, again.model.heads) == ((16, 128), (32, 64), 2)
    assert (again.config.normalisation, again.config.polar, again.trained_on) == ("imagenet", False, "cvact:cvact")
    assert all(torch.equal(value, again.model.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_packed_run_is_small_forgets_its_folders_and_answers_the_same(trained: Trained, session: Session, tmp_path: Path) -> None:
    packed = pack(trained.folder, tmp_path / "small")
    assert (packed / "model.safetensors").stat().st_size < 0.55 * (trained.folder / "model.safetensors").stat().st_size
    again = open_trained(packed)
    assert again.config.run_dir == again.config.data_root == ""
    embedding = embed_dataset(again.model, session.dataset, session.config).query
    difference = (embedding - embed_dataset(session.model, session.dataset, session.config).query).norm(dim=1)
    assert difference.max() < 0.02
    assert next(again.model.parameters()).dtype == torch.float32


def test_the_runs_that_ship_are_small_and_know_the_place_better_than_chance() -> None:
    shipped = [run for run in explore.find_runs() if run.folder.parent == shipped_folder()]
    assert {run.config.sampling for run in shipped} == {"L+S", "raw"}
    assert {run.folder.name for run in shipped} == set(SHIPPED)
    assert sum(path.stat().st_size for path in shipped_folder().rglob("*") if path.is_file()) < 12e6
    first, second = explore.default_pair()
    assert second is not None
    assert (first.config.sampling, second.config.sampling) == ("L+S", "raw")
    for run in shipped:
        assert all(getattr(run.config, name) == value for name, value in SHIPPED[run.folder.name].items())
        metrics = read_json(run.folder / "metrics.json")
        assert metrics["config"]["run_dir"] == run.config.run_dir == ""
        assert metrics["evaluation"]["helsinki"]["r1"] > 20 / metrics["evaluation"]["helsinki"]["n_gallery"]
        test = data.open_dataset("osm", area="helsinki", split="test", n=64, progress=False)
        recalls = evaluate(open_trained(run.folder).model, test, run.config)
        assert recalls["r1"] > 8 / 64, "and these weights are that model's"


# Photographs


def make_photographs(folder: Path, n: int = 4) -> Path:
    rng = np.random.default_rng(0)
    for i in range(n):
        Image.fromarray(rng.integers(0, 255, (120, 160, 3), np.uint8)).save(folder / f"p{i}_ground.jpg")
        Image.fromarray(rng.integers(0, 255, (200, 200, 3), np.uint8)).save(folder / f"p{i}_sat.jpg")
    rows = [f"p{i},{40 * i},{60 + i / 1000},{24 + i / 1000}" for i in range(n)]
    (folder / "samples.csv").write_text("\n".join(["Grd_ID,Compass_angle,Latitude,Longitude", *rows]))
    return folder


def test_photographed_places_are_opened_as_pairs(tmp_path: Path) -> None:
    found = open_photographed(make_photographs(tmp_path), (16, 64), 24)
    assert len(found) == found.n_references == 4
    assert found.ground([0]).shape == (1, 3, 16, 64)
    assert found.aerial([0]).shape == (1, 3, 24, 24)
    seen = (found.ground([0, 2]) != torch.from_numpy(mean_colour()).view(1, 3, 1, 1)).any(1).any(1)  # 2 x 64
    assert seen[0].nonzero().float().mean() == pytest.approx(31.5, abs=1), "looks north"
    assert seen[1].nonzero().float().mean() == pytest.approx(31.5 + 80 / 360 * 64, abs=1)


def test_tiles_are_cut_at_the_scale_that_the_model_knows(tmp_path: Path) -> None:
    make_photographs(tmp_path)
    assert open_photographed(tmp_path, (16, 64), 0).aerial([0]).shape[-1] == 144  # 72 m of 0.5 m, as they are
    assert open_photographed(tmp_path, (16, 64), 0, metres_per_pixel=0.4, tile_metres=40.0).aerial([0]).shape[-1] == 100


def test_a_model_of_photographed_tiles_needs_their_scale(trained: Trained, tmp_path: Path) -> None:
    real = replace(trained, config=trained.config.replace(dataset="cvusa", train_area="cvusa", data_root="/data", test_areas=["cvusa"]))
    with pytest.raises(ConfigError, match="tile_metres: .* was trained on cvusa; say how many metres"):
        explore.photographed_ranks(real, make_photographs(tmp_path))
    assert len(explore.photographed_ranks(real, tmp_path, tile_metres=50.0)) == 4


def test_only_models_with_descriptors_can_be_explored(trained: Trained) -> None:
    config = trained.config.replace(model="safa", counterfactual_weight=0)
    other = replace(trained, config=config, model=build_model(config))
    with pytest.raises(ConfigError, match="is 'safa'; only geodtr has descriptors to look at"):
        explore.Session(other)


def test_photographs_that_will_not_do_are_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"samples\.csv does not exist"):
        open_photographed(tmp_path, (16, 64), 24)
    make_photographs(tmp_path)
    with pytest.raises(DatasetError, match=r"p0_sat\.jpg shows 100 m; a tile needs 120 m"):
        open_photographed(tmp_path, (16, 64), 24, tile_metres=120.0)
    text = (tmp_path / "samples.csv").read_text()
    (tmp_path / "samples.csv").write_text(text.replace("p1,", "../p1,"))
    with pytest.raises(DatasetError, match="is no name of a photo in the folder"):
        open_photographed(tmp_path, (16, 64), 24)
    (tmp_path / "samples.csv").write_text(text.replace("Compass_angle", "angle"))
    with pytest.raises(DatasetError, match="has no column 'Compass_angle'"):
        open_photographed(tmp_path, (16, 64), 24)
    (tmp_path / "samples.csv").write_text(text)
    (tmp_path / "p2_ground.jpg").unlink()
    with pytest.raises(DatasetError, match=r"p2_ground\.jpg does not exist"):
        open_photographed(tmp_path, (16, 64), 24)


def test_ranks_of_photographs_come_with_chance(trained: Trained, tmp_path: Path) -> None:
    table = explore.photographed_ranks(trained, make_photographs(tmp_path))
    assert table["rank"].between(1, 4).all()
    best, worst = (rank_summary(pd.DataFrame({"rank": [rank] * 3, "n": 4})) for rank in (1, 4))
    assert best["p"] == pytest.approx(4**-3)
    assert worst["p"] == pytest.approx(1)
    assert best["r1"] == 1
    assert best["chance_r1"] == 0.25
    assert best["chance_mean_rank"] == 2.5


def test_real_places_are_ranked_whatever_the_rank_is(trained: Trained, shared: Path) -> None:
    folder = shared / "data" / "cvh3d"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder} with photographs of real places")
    table = explore.photographed_ranks(trained, folder)
    assert len(table) == 10
    assert table["rank"].between(1, 10).all()
    assert 0 < rank_summary(table)["p"] <= 1


def test_other_weather_is_asked_through_a_choice(session: Session) -> None:
    night = explore.picture_of(session, Choice(2, weather=Weather("night")))
    assert night.shape == session.panorama(2).shape
    assert night.float().mean() < session.panorama(2).float().mean()
