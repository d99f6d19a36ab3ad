"""The pictures of a finished run show what its own evaluation found."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import tiny

import geodtr_lib
from geodtr_lib import data
from geodtr_lib.config import RunConfig
from geodtr_lib.study.run_pictures import descriptors_of, retrievals


@pytest.mark.parametrize("fov", [360.0, 180.0])
def test_what_is_shown_has_the_recall_of_the_evaluation(tmp_path: Path, fov: float) -> None:
    metrics = geodtr_lib.run(tiny(tmp_path / "run", n_test=9, fov=fov, heading="random"), progress=False)
    config = RunConfig(**metrics["config"])
    test = data.open_for(config, "midrise", "test")
    figure, ranks = retrievals(tmp_path / "run", test, n=3, shown=2)
    assert (ranks == 1).double().mean().item() == pytest.approx(metrics["evaluation"]["midrise"]["r1"])
    assert (ranks <= 5).double().mean().item() == pytest.approx(metrics["evaluation"]["midrise"]["r5"])
    written = " ".join(text.get_text() for axes in figure.axes for text in [axes.title, *axes.texts])
    assert all(str(rank) in written for rank in ranks[[0, 3, 6]].tolist())
    assert descriptors_of(tmp_path / "run", test) is not None


def test_a_method_without_descriptors_has_no_picture_of_them(tmp_path: Path) -> None:
    metrics = geodtr_lib.run(tiny(tmp_path / "run", epochs=1, model="cvft"), progress=False)
    test = data.open_for(RunConfig(**metrics["config"]), "midrise", "test")
    assert descriptors_of(tmp_path / "run", test) is None
    assert len(retrievals(tmp_path / "run", test, n=2, shown=1)[1]) == len(test)
