"""Figures: what is drawn is what was given, and nothing outside them changes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from geodtr_lib import plots
from geodtr_lib.data.base import ArrayDataset
from geodtr_lib.errors import RunError
from geodtr_lib.geometry import apply_layout, polar_transform
from geodtr_lib.plots.exploring import turning_summary
from geodtr_lib.plots.maps import candidates_map, error_curves
from geodtr_lib.plots.style import COLOURS, RIGHT, WRONG


def images(n: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def drawn(axes: plt.Axes) -> np.ndarray:
    """The H x W x 3 pixels behind an axes."""
    return np.asarray(axes.images[0].get_array())


def rendered(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba")
    return buffer.getvalue()


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


@pytest.fixture
def bars() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sampling": ["raw", "raw", "LS", "LS"],
            "protocol": ["same", "cross", "same", "cross"],
            "mean": [0.5, 0.02, 0.45, 0.15],
            "low": [0.48, 0.01, 0.44, np.nan],
            "high": [0.52, 0.03, 0.46, np.nan],
            "n": [3, 3, 3, 1],
        }
    )


def test_a_pair_shows_tile_unrolled_tile_panorama_and_depth() -> None:
    aerial, ground = images(1, 32, 32), images(1, 16, 64, seed=1)
    depth = np.full((1, 16, 64), 20.0)
    depth[0, 0] = np.inf
    tile, unrolled, panorama, metres, _ = plots.pairs(aerial, ground, depth, ["here"]).axes
    np.testing.assert_allclose(drawn(tile), aerial[0].movedim(0, -1).numpy())
    np.testing.assert_allclose(drawn(unrolled), polar_transform(aerial, (16, 64))[0].movedim(0, -1).numpy())
    np.testing.assert_allclose(drawn(panorama), ground[0].movedim(0, -1).numpy())
    shown = metres.images[0].get_array()
    assert shown.mask[0].all(), "sky has no depth"
    assert not shown.mask[1:].any()
    assert tile.get_title(loc="left") == "here"


def test_azimuth_marks_stand_where_the_panorama_looks_there() -> None:
    panorama = plots.pairs(images(1, 32, 32), images(1, 16, 64)).axes[-1]
    marks = dict(zip([label.get_text() for label in panorama.get_xticklabels()][1:], panorama.get_xticks()[1:], strict=True))
    assert marks == {"W": 15.5, "N": 31.5, "E": 47.5, "S": 63.5}  # pixel j covers j - 0.5 to j + 0.5


def test_an_aerial_image_that_is_unrolled_is_not_unrolled_again() -> None:
    aerial = images(1, 16, 64)
    strip = plots.pairs(aerial, images(1, 16, 64, seed=1)).axes[1]
    np.testing.assert_allclose(drawn(strip), aerial[0].movedim(0, -1).numpy())


def test_pairs_of_different_sizes_stand_in_one_figure() -> None:
    figure = plots.pairs([images(1, 32, 32)[0], images(1, 48, 48)[0]], [images(1, 16, 64)[0], images(1, 12, 48)[0]])
    assert [drawn(axes).shape[:2] for axes in figure.axes] == [(32, 32), (16, 64), (16, 64), (48, 48), (12, 48), (12, 48)]


def pair_dataset(area: str, truth: dict[str, np.ndarray] | None = None) -> ArrayDataset:
    generator = np.random.default_rng(len(area))
    aerial = generator.integers(0, 256, (2, 3, 24, 24), np.uint8)
    return ArrayDataset("city", area, "test", aerial, generator.integers(0, 256, (2, 3, 16, 64), np.uint8), "0", truth=truth)


def test_examples_show_one_pair_of_each_data_set_and_depth_only_where_all_know_it() -> None:
    known, unknown = pair_dataset("oldtown", {"ground_depth": np.full((2, 16, 64), 10.0)}), pair_dataset("suburb")
    figure = plots.example_pairs([known, known], index=1)
    assert [axes.get_title(loc="left") for axes in figure.axes[::4]][:2] == ["oldtown, test"] * 2
    np.testing.assert_array_equal(drawn(figure.axes[0]), known.aerial([1])[0].movedim(0, -1).numpy())
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), 10.0)
    assert "depth" in texts(figure)
    assert "depth" not in texts(plots.example_pairs([known, unknown]))


def test_all_eight_layouts_are_shown_and_differ() -> None:
    aerial, ground = images(1, 24, 24), images(1, 16, 64, seed=1)
    axes = plots.layouts(aerial[0], ground[0]).axes
    shown = {(drawn(top).tobytes(), drawn(bottom).tobytes()) for top, bottom in zip(axes[::2], axes[1::2], strict=True)}
    assert len(shown) == 8
    third_aerial, third_ground = apply_layout(aerial, ground, False, 2)
    np.testing.assert_allclose(drawn(axes[4]), third_aerial[0].movedim(0, -1).numpy())
    np.testing.assert_allclose(drawn(axes[5]), third_ground[0].movedim(0, -1).numpy())


def test_right_and_wrong_retrievals_differ_by_colour_line_and_symbol() -> None:
    right = np.array([[False, True]])
    figure = plots.top_retrievals(images(1, 16, 64), images(2, 24, 24).unflatten(0, (1, 2)), right, images(1, 24, 24), [2])
    _, wrong_axes, right_axes, truth_axes = figure.axes
    for axes, colour, symbol in ((wrong_axes, WRONG, "✗"), (right_axes, RIGHT, "✓")):
        assert {to_hex(spine.get_edgecolor()) for spine in axes.spines.values()} == {colour.lower()}
        assert symbol in axes.get_title()
    assert wrong_axes.spines["left"].get_linestyle() != right_axes.spines["left"].get_linestyle()
    assert "rank 2" in truth_axes.get_title()


def test_descriptor_maps_lie_where_the_descriptor_is_large() -> None:
    descriptors = torch.zeros(2, 4, 16)
    descriptors[1, :, 12] = 1.0  # the second descriptor looks east
    figure = plots.descriptor_maps(images(1, 16, 64)[0], images(1, 16, 64)[0], descriptors, descriptors)
    overlay = figure.axes[5].images[1].get_array()  # ground column: image, q1, q2
    assert overlay.shape == (16, 64)
    assert 48 <= overlay.mean(axis=0).argmax() < 52
    assert figure.axes[4].images[1].get_array().max() == 0


def test_loss_curves_have_one_line_each_told_apart_without_colour() -> None:
    axes = plots.loss_curves({"triplet": [1.0, 0.5, 0.25], "counterfactual": [0.6, 0.3, 0.2]}, ylabel="mean loss").axes[0]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[1.0, 0.5, 0.25], [0.6, 0.3, 0.2]]
    assert axes.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert len({line.get_linestyle() for line in axes.lines}) == 2
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("epoch", "mean loss (log axis)", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["triplet", "counterfactual"]


def test_a_loss_that_is_zero_throughout_is_named(recwarn: pytest.WarningsRecorder) -> None:
    figure = plots.loss_curves({"triplet": [1.0, 0.5], "counterfactual": [0.0, 0.0]})
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["triplet", "counterfactual (0)"]
    assert len(set(rendered(figure))) > 10
    assert not recwarn.list, "a logarithm of 0"


def test_the_ends_of_loss_curves_are_told_apart() -> None:
    rows = pd.DataFrame(
        [
            {"step": step, "loss": end if step == 20 else 0.9, "sampling": name, "training": training}
            for name, ends in (("LS", (0.012, 0.014)), ("CHSG", (0.008, 0.01)))
            for training, end in enumerate(ends)
            for step in (10, 20)
        ]
    )
    (axes,) = plots.loss_bands({"city": rows}).axes
    heights = [axes.transAxes.inverted().transform(axes.transData.transform((20, line.get_ydata()[-1])))[1] for line in axes.lines]
    assert heights[0] - heights[1] > 0.05, "of the axis; linear it was 0.004"
    assert axes.get_legend().get_title().get_text() == "mean at the end; band: range, n = 2"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["LS: 0.013", "CHSG: 0.009"]
    assert axes.lines[0].get_xdata().tolist() == [10, 20]


def test_a_single_epoch_is_a_point_on_a_whole_number() -> None:
    axes = plots.loss_curves({"triplet": [1.0]}).axes[0]
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]
    assert axes.lines[0].get_marker() == "o"


def test_recall_bars_are_percentages_with_their_intervals(bars: pd.DataFrame) -> None:
    figure = plots.recall_bars(bars, "sampling")
    axes = figure.axes[0]
    containers = [container for container in axes.containers if isinstance(container, mpl.container.BarContainer)]
    heights = [[bar.get_height() for bar in container] for container in containers]
    np.testing.assert_allclose(heights, [[50, 45], [2, 15]])  # same, cross
    spans = [path.vertices[:, 1].tolist() for collection in axes.collections for path in collection.get_paths()]
    np.testing.assert_allclose(spans, [[48, 52], [44, 46], [1, 3]])  # the fourth is of one seed, which has no interval
    assert len({bar.get_hatch() for bar in axes.patches}) == 2
    assert any("n = 1 to 3" in text for text in texts(figure))


def test_bars_stand_in_the_middle_of_what_their_group_has(bars: pd.DataFrame) -> None:
    axes = plots.recall_bars(bars.drop(index=1), "sampling").axes[0]
    same, cross = (
        [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in container]
        for container in axes.containers
        if isinstance(container, mpl.container.BarContainer)
    )
    np.testing.assert_allclose(same, [(0, 50), (0.8, 45)])
    np.testing.assert_allclose(cross, [(1.2, 15)])


def forest(**others: object) -> pd.DataFrame:
    return pd.DataFrame({"label": ["a", "b"], "mean": [1.0, -2.0], "low": [0.5, -3.0], "high": [1.5, -1.0], "n": [3, 3], **others})


def key_of(figure: Figure) -> list[str]:
    return [figure.legends[0].get_title().get_text(), *(text.get_text() for text in figure.legends[0].get_texts())]


def test_a_forest_plot_says_how_many_trainings_where_it_does_not_vary() -> None:
    alike, single = plots.intervals(forest()), plots.intervals(forest(n=1, low=np.nan, high=np.nan))
    two = plots.intervals(forest(n=2, low=np.nan, high=np.nan))
    assert [key_of(figure) for figure in (alike, single, two)] == [
        ["mean and 95 % interval, n = 3 trainings"], ["one training each"], ["mean, n = 2 trainings, too few for an interval"],
    ]  # fmt: skip
    assert not alike.axes[0].texts
    mixed = plots.intervals(forest(n=[3, 1], low=[0.5, np.nan], high=[1.5, np.nan]))
    assert key_of(mixed) == ["mean and 95 % interval, n = 1 to 3 trainings, fewer than three have none"]
    assert [text.get_text() for text in mixed.axes[0].texts] == ["n = 3", "n = 1"]


def test_a_forest_plot_marks_bounds_other_comparisons_and_floors() -> None:
    figure = plots.intervals(
        forest(bounds=[[-2.0, 2.0], []], published=[3.0, 4.0], published_alike=[True, False], hollow=[False, True]), hollow="near chance"
    )
    assert key_of(figure)[1:] == ["near chance", "published", "published, of another comparison", "bound of the claim"]
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "X"]
    assert [(line.get_xdata().tolist(), line.get_markerfacecolor()) for line in crosses] == [([3.0], "black"), ([4.0], "white")]
    points = [line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert points == [COLOURS[0], "white"]
    bounds = [line.get_xdata() for line in figure.axes[0].lines if line.get_linestyle() == "--" and len(line.get_xdata()) == 2]
    assert [list(x) for x in bounds] == [[-2.0, -2.0], [2.0, 2.0]]


def test_intervals_of_recalls_lie_whole_in_the_figure() -> None:
    points = pd.DataFrame({"label": ["LS"], "group": ["city"], "same": [60.0], "cross": [20.0]})
    bounds = {"same_low": [30.0], "same_high": [90.0], "cross_low": [5.0], "cross_high": [35.0]}
    printed, measured = plots.same_against_cross({"published": points, "measured": points.assign(**bounds)}).axes
    for axes in (printed, measured):
        assert (*axes.get_xlim(), *axes.get_ylim()) == (0, 100, 0, 100)
    keys = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in (printed, measured)]
    assert keys == [["LS"], ["LS", "95 % interval over seeds"]]


def test_a_colour_bar_has_an_arrow_only_where_values_are_outside() -> None:
    image = torch.rand(3, 16, 64)
    saturated = torch.cat([torch.full((2, 1, 8), -1.0), torch.linspace(-1, 1, 16).view(2, 1, 8), torch.full((2, 1, 8), 1.0)], 1)  # hardtanh
    loose = torch.linspace(0, 1, 64).view(2, 4, 8)

    def arrows(maps: torch.Tensor) -> set[str]:
        figures = plots.descriptor_columns([("a", image, maps)], [0, 1]), plots.descriptor_maps(image, image, maps, maps)
        return {axes._colorbar.extend for figure in figures for axes in figure.axes if hasattr(axes, "_colorbar")}

    assert arrows(saturated) == {"neither"}
    assert arrows(loose) == {"both"}
    assert arrows(loose.clamp(max=0.9)) == {"min"}


def test_a_curve_of_turning_ends_where_its_axis_does() -> None:
    angle = np.arange(-180.0, 180.0, 90.0)
    distance = np.arange(16.0).reshape(2, 2, 4)
    panels = turning_summary({"run": (angle, distance)}).axes
    for row, axes in enumerate(panels):
        assert axes.lines[0].get_xdata().tolist() == [-180, -90, 0, 90, 180]
        assert axes.lines[0].get_ydata().tolist() == [*distance[:, row].mean(0), distance[:, row, 0].mean()]
        assert axes.get_xlim() == (-180, 180)


class Town(NamedTuple):
    """A town of one street."""

    size: tuple[float, float] = (1000.0, 1000.0)
    buildings: tuple[np.ndarray, ...] = ()
    green: tuple[np.ndarray, ...] = ()
    water: tuple[np.ndarray, ...] = ()
    streets: tuple[np.ndarray, ...] = (np.array([[0.0, 500.0], [1000.0, 500.0]]),)
    paths: tuple[np.ndarray, ...] = ()


def test_the_scale_of_a_map_stands_where_no_candidate_is() -> None:
    truth = np.array([500.0, 500.0])

    def scales(candidate: tuple[float, float]) -> list[tuple[float, float]]:
        overview, detail = candidates_map(Town(), np.array([candidate]), truth).axes
        bars = [line for axes in (overview, detail) for line in axes.lines if line.get_linewidth() == 2.5]
        return [tuple(np.mean(bar.get_data(), axis=1)) for bar in bars]

    free, beside, beyond = scales((510.0, 510.0)), scales((380.0, 362.0)), scales((100.0, 40.0))
    assert max(free[0]) < 500, "lower left"
    assert max(free[1]) < 500
    assert beside[1][0] > 500 > beside[1][1], "a disc is there, so lower right"
    assert beyond[0][0] > 500 > beyond[0][1], "a disc in the town's corner"
    assert beyond[1][0] > 500 > beyond[1][1], "the line to it"
    assert scales((900.0, 40.0)) == free


def test_a_disc_on_the_frame_of_a_map_is_whole_and_one_outside_is_not_drawn() -> None:
    detail = candidates_map(Town(), np.array([[645.0, 500.0], [800.0, 500.0]]), np.array([500.0, 500.0])).axes[1]
    assert [text.get_text() for text in detail.texts if text.get_text().isdigit()] == ["1"]
    (disc,) = [line for line in detail.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert not disc.get_clip_on()


def test_the_radii_of_errors_are_seen_and_named() -> None:
    errors = np.geomspace(2, 900, 200)
    figure = error_curves({"here": errors}, {"here": 10 * errors})
    (axes,) = figure.axes
    radii = [line for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert [line.get_xdata()[0] for line in radii] == [10, 25, 50]
    assert all(line.get_zorder() > axes.xaxis.get_zorder() for line in radii), "the grid covered the one at 10"
    assert [text.get_text() for text in axes.texts] == ["10", "25", "50"]
    assert "log axis" in axes.get_xlabel()
    assert inside(figure)


def inside(figure: Figure) -> bool:
    """Whether the whole key lies on the page."""
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    return bool(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height)


def test_a_long_key_takes_more_lines_and_stays_on_the_page(bars: pd.DataFrame) -> None:
    short = plots.recall_bars(bars, "sampling")
    names = ["osm, same-area of all", "osm, cross-area of all", "city, same", "city, cross"]
    long = plots.recall_bars(bars.assign(protocol=names), "sampling")
    assert inside(short)
    assert inside(long)
    assert long.legends[0].get_window_extent().height > short.legends[0].get_window_extent().height


def test_panels_of_strengths_show_every_line_whole_and_no_empty_frame() -> None:
    rows = pd.DataFrame([
        {"change": change, "sampling": "raw", "strength": strength, "mean": level - strength / 10, "low": np.nan, "high": np.nan, "n": 1}
        for change, level in (("fog", 0.2), ("rain", 0.3), ("snow", 0.4), ("night", 0.5), ("autumn", 0.9))
        for strength in (0.0, 1.0)
    ])  # fmt: skip
    figure = plots.strength_curves(rows)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == ["fog", "rain", "snow", "night", "autumn"]
    assert all(axes.get_ylim()[0] == 0 and axes.get_ylim()[1] >= 90 for axes in shown)
    # The lowest panel of each column names the strengths.
    assert [axes.xaxis.get_tick_params()["labelbottom"] for axes in shown] == [False, True, True, True, True]
    assert inside(figure)


def test_densities_integrate_to_one_and_name_their_size() -> None:
    generator = np.random.default_rng(0)
    kinds = {"original": generator.normal(0.5, 0.1, 300), "rot90": generator.normal(1.5, 0.2, 200)}
    axes = plots.distance_densities(kinds).axes[0]
    for line, peak in zip(axes.lines, (0.5, 1.5), strict=True):
        x, y = line.get_data()
        assert np.trapezoid(y, x) == pytest.approx(1, abs=0.02)
        assert x[np.argmax(y)] == pytest.approx(peak, abs=0.1)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["original (n = 300)", "rot90 (n = 200)"]


def test_nothing_outside_a_figure_changes(bars: pd.DataFrame) -> None:
    before = dict(mpl.rcParams)
    figure = plots.recall_bars(bars, "sampling")
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == [], "pyplot keeps the figure and a notebook would show it twice"
    assert to_hex(figure.axes[0].patches[0].get_facecolor()) == COLOURS[0].lower(), "yet the figure has the study's style"


def test_colours_differ_in_lightness_or_line_for_the_colour_blind() -> None:
    # Relative luminance (Rec. 709); blue and vermillion, which mark right and wrong, must not coincide in grey.
    luminance = [np.dot(mpl.colors.to_rgb(colour), [0.2126, 0.7152, 0.0722]) for colour in (RIGHT, WRONG)]
    assert abs(luminance[0] - luminance[1]) > 0.05


def test_saved_figures_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    figure = plots.loss_curves({"triplet": [1.0, 0.5]})
    first = [path.read_bytes() for path in plots.save(figure, tmp_path / "one")]
    again = [path.read_bytes() for path in plots.save(plots.loss_curves({"triplet": [1.0, 0.5]}), tmp_path / "two")]
    assert first == again
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["one.pdf", "one.png", "two.pdf", "two.png"]
    assert first[0].startswith(b"\x89PNG")
    assert first[1].startswith(b"%PDF")


def test_saving_where_nothing_can_be_written_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/loss\.png"):
        plots.save(plots.loss_curves({"triplet": [1.0]}), tmp_path / "file" / "loss")


def test_every_figure_renders_without_a_warning(bars: pd.DataFrame, recwarn: pytest.WarningsRecorder) -> None:
    tiles, panoramas = images(3, 32, 32), images(3, 16, 64)
    figures = [
        plots.pairs(tiles, panoramas, np.full((3, 16, 64), 10.0)),
        plots.layouts(panoramas[0], panoramas[1], polar=True),
        plots.top_retrievals(panoramas[:2], tiles[:2, None], np.eye(2, 1, dtype=bool), tiles[:2], [1, 1000]),
        plots.descriptor_maps(tiles[0], panoramas[0], torch.rand(8, 4, 4), torch.rand(8, 2, 8)),
        plots.loss_curves({"triplet": [1.0]}),
        plots.recall_bars(bars, "sampling"),
        plots.distance_densities({"original": np.linspace(0, 1, 20)}),
    ]
    for figure in figures:
        assert len(set(rendered(figure))) > 10, "an empty page"
    assert [str(warning.message) for warning in recwarn] == []
