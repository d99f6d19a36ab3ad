"""Figures: what is drawn is what was given, and nothing outside them changes."""

from __future__ import annotations

import io
from pathlib import Path

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
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "mean loss")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["triplet", "counterfactual"]


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


def test_recall_bars_leave_a_gap_for_a_missing_group(bars: pd.DataFrame) -> None:
    axes = plots.recall_bars(bars.drop(index=1), "sampling").axes[0]
    cross = [bar.get_height() for bar in axes.containers[-2]]
    assert np.isnan(cross[0])
    assert cross[1] == pytest.approx(15)


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
