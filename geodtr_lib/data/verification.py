"""Checks a whole data set and says, for each fault, what to do next.

``python -m geodtr_lib.data.verification cvusa ROOT`` prints what was found; with ``--write FILE`` it lists every image at fault. Its exit
status is 1 when something is at fault.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from geodtr_lib.data import cvact, cvusa, vigor
from geodtr_lib.data.act_mat import read_act_data
from geodtr_lib.data.base import VerifyError, VerifyReport
from geodtr_lib.data.folders import Tree
from geodtr_lib.data.pairs import PairTable
from geodtr_lib.data.repeats import PixelHash, hash_images, repeated_rows
from geodtr_lib.data.screening import MISSING, check_files, fault_lines, first_of
from geodtr_lib.data.vigor_labels import read_tiles
from geodtr_lib.errors import ConfigError, DatasetError, GeoDTRError
from geodtr_lib.files import write_bytes
from geodtr_lib.lookup import expanded, is_folder

OWNERS = {
    "cvusa": "https://mvrl.cse.wustl.edu/datasets/cvusa/",
    "cvact": "https://github.com/Liumouliu/OriCNN",
    "vigor": "https://github.com/Jeff-Zilence/VIGOR",
}
"""Where each data set is asked for."""

# Rows that the owners' split files have; for the repeats, what the authors' cleaned lists leave out.
EXPECTED_CVUSA = {"train pairs": 35_532, "test pairs": 8_884, "repeated train pairs": 763, "repeated test pairs": 43}
EXPECTED_CVACT = {"cvact train pairs": 35_532, "cvact test pairs": 8_884, "cvact_test test pairs": 92_802}
EXPECTED_TILES = {"NewYork": 23_279, "Seattle": 20_776, "SanFrancisco": 24_255, "Chicago": 22_308}
LABEL_FILES = {
    "same-area train": "same_area_balanced_train.txt",
    "same-area test": "same_area_balanced_test.txt",
    "cross-area": "pano_label_balanced.txt",
}
EXPECTED_QUERIES = {
    ("same-area train", vigor.CITIES): 52_609,
    ("same-area test", vigor.CITIES): 52_605,
    ("cross-area", vigor.CITIES[:2]): 51_520,
    ("cross-area", vigor.CITIES[2:]): 53_694,
}
FETCH = "fetch them again from the data set's owners, or open with skip_missing=True"


class _Checker:
    """Checks files once each, however many areas and splits name them, and collects what is wrong."""

    def __init__(self, report: VerifyReport, tree: Tree, decode: bool, workers: int, progress: bool) -> None:
        self.report, self.tree = report, tree
        self._decode, self._workers, self._progress = decode, workers, progress
        self._hashes: dict[str, PixelHash] = {}

    def images(self, names: Sequence[str], label: str) -> list[PixelHash]:
        """Check the images called ``label``; gives the hashes of their pixels, where they are decoded."""
        new = [name for name in dict.fromkeys(names) if name not in self._hashes]
        checks = dict(zip(new, check_files(self.tree, new, self._workers), strict=True))
        missing = [name for name, check in checks.items() if check.fault == MISSING]
        present = [name for name, check in checks.items() if check.fault != MISSING]
        hashes = [PixelHash(fault=checks[name].fault) for name in present]
        if self._decode:
            hashes = hash_images(self.tree, present, workers=self._workers, progress=self._progress, label=f"{label}: decoding")
        self.fault(missing, f"{label} images missing", FETCH)
        self.fault(fault_lines(present, hashes), f"{label} images unreadable", FETCH)
        self.report.faulty += [*missing, *(name for name, check in zip(present, hashes, strict=True) if check.fault)]
        self._hashes |= {name: PixelHash(fault=MISSING) for name in missing} | dict(zip(present, hashes, strict=True))
        return [self._hashes[name] for name in names]

    def pairs(self, table: PairTable, label: str) -> None:
        """Check both images of every pair, and count the pairs that repeat an earlier one."""
        ground = self.images(table.ground, f"{label} ground")
        aerial = self.images(table.aerial, f"{label} aerial")
        if self._decode:
            repeated = np.flatnonzero(repeated_rows(ground, aerial))
            self.report.counts[f"repeated {label} pairs"] = len(repeated)
            self.report.details[f"repeated {label} pairs"] = [table.query_ids[row] for row in repeated.tolist()]

    def fault(self, lines: Sequence[str], what: str, advice: str) -> None:
        """Record faults of one kind: the total, the first five, and what to do."""
        if lines:
            self.report.problems.append(f"{what}: {len(lines):,} ({first_of(lines)}); {advice}")
            self.report.details.setdefault(what, []).extend(lines)

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Turn an error into a problem of the report, and go on with the rest."""
        try:
            yield
        except DatasetError as error:
            self.report.problems.append(str(error))


def verify_cvusa(root: str | Path | None, *, decode: bool = True, workers: int = 0, progress: bool = True) -> VerifyReport:
    """Check CVUSA: rows of the split files, and every image they name.

    Args:
        decode: decode every image, which finds all damage and the repeated pairs; False looks at the files' ends only.
        workers: threads; 0 = one per core.
        progress: show bars.

    Returns:
        The report. Repeated pairs are counted and listed in ``details``; they are no problem, training leaves them out.

    Raises:
        DatasetError: nothing to check: no data set there.
    """
    folder = cvusa.find_cvusa(root)
    report = VerifyReport("cvusa", str(folder), {}, dict(EXPECTED_CVUSA))
    checker = _Checker(report, Tree(folder, cvusa.LAYOUT), decode, workers, progress)
    for split in cvusa.SPLIT_FILES:
        with checker.collect():
            table = cvusa.read_split(folder, split)
            report.counts[f"{split} pairs"] = len(table.ground)
            checker.pairs(table, split)
    return report


def verify_cvact(
    root: str | Path | None, *, mat: str | Path = "", decode: bool = True, workers: int = 0, progress: bool = True
) -> VerifyReport:
    """Check CVACT: the index lists of ``ACT_data.mat``, and every image they name.

    Arguments as of :func:`verify_cvusa`; ``mat`` is the path of ``ACT_data.mat`` where it does not lie at or below ``root``. The 92,802
    test pairs are checked when there is an ``ANU_data_test`` folder.

    Raises:
        DatasetError: nothing to check, or an ``ACT_data.mat`` that cannot be read.
    """
    images, act_data = cvact.find_cvact(root, mat)
    report = VerifyReport("cvact", str(images), {}, dict(EXPECTED_CVACT))
    tree = Tree(images, cvact.LAYOUT)
    checker = _Checker(report, tree, decode, workers, progress)
    data = read_act_data(act_data)
    for (area, split), (_, folders) in cvact.SUBSETS.items():
        table, _ = cvact.pair_table(tree, data, area, split)
        report.counts[f"{area} {split} pairs"] = len(table.ground)
        if not any(is_folder(images / folder) for folder in folders):
            report.details[f"{area} {split}"] = f"not checked: there is no {folders[0]} folder"
            continue
        checker.pairs(table, f"{area} {split}")
    return report


def verify_vigor(
    root: str | Path | None, *, labels: str = "released", decode: bool = True, workers: int = 0, progress: bool = True
) -> VerifyReport:
    """Check VIGOR: tiles and panoramas of every city that has labels; other arguments as :func:`verify_cvusa`.

    Raises:
        DatasetError: nothing to check: no data set there.
    """
    folder = vigor.find_vigor(root, labels)
    tree = Tree(folder, vigor.LAYOUT)
    cities = [city for city in vigor.CITIES if is_folder(folder / vigor.label_folder(labels) / city)]
    if not cities:
        wanted = f"none of the folders {', '.join(vigor.CITIES)}"
        raise DatasetError(f"{folder / vigor.label_folder(labels)} has {wanted}; give VIGOR's own folder as data_root")
    report = VerifyReport("vigor", str(folder), {}, {f"{city} tiles": EXPECTED_TILES[city] for city in vigor.CITIES})
    report.details["labels"] = labels
    checker = _Checker(report, tree, decode, workers, progress)
    for city in cities:
        report.counts[f"{city} tiles"] = len(read_tiles(vigor.list_path(tree, city, labels)))
        for name, file in LABEL_FILES.items():
            with checker.collect():
                table, absent = vigor.vigor_table(tree, [city], file, labels)
                checker.fault(absent, f"{city} {name} label rows naming tiles absent from satellite_list.txt", "fetch the labels again")
                report.counts[f"{city} {name} queries"] = len(table.ground) + len(absent)
                checker.images(table.ground, f"{city} ground")
                checker.images(table.aerial, f"{city} aerial")
    if set(cities) == set(vigor.CITIES):
        for (name, part), expected in EXPECTED_QUERIES.items():
            key = f"{'+'.join(part)} {name} queries" if part != vigor.CITIES else f"{name} queries"
            report.counts[key] = sum(report.counts.get(f"{city} {name} queries", 0) for city in part)
            report.expected[key] = expected
    return report


CHECKS: dict[str, Callable[..., VerifyReport]] = {"cvusa": verify_cvusa, "cvact": verify_cvact, "vigor": verify_vigor}


def require(report: VerifyReport) -> None:
    """Refuse a data set with problems.

    Raises:
        VerifyError: problems; one line with the counts, every kind of fault and where the owners are asked. It holds the report.
    """
    if report.ok:
        return
    expected = {key: count for key, count in report.expected.items() if not key.startswith("repeated")}
    counts = ", ".join(f"{key} {report.counts.get(key, 0):,} of {count:,}" for key, count in expected.items())
    raise VerifyError(f"{report.name} at {report.root}: {counts}; {'; '.join(report.problems)}; {_whom_to_ask(report)}", report)


def _whom_to_ask(report: VerifyReport) -> str:
    return f"the owners give the data out on request: {OWNERS[report.name]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m geodtr_lib.data.verification", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=tuple(CHECKS), help="data set")
    parser.add_argument("root", help="its folder, in the owners' layout")
    parser.add_argument("--mat", default="", help="cvact: path of ACT_data.mat (default: searched for at and below ROOT)")
    parser.add_argument("--labels", default="", help="vigor: released or corrected (default: released)")
    parser.add_argument("--quick", action="store_true", help="look at the files' ends only, do not decode")
    parser.add_argument("--write", default="", metavar="FILE", help="write the names of all images that are missing or cannot be read")
    parser.add_argument("--workers", type=int, default=0, help="threads (default: one per core)")
    given = parser.parse_args(arguments)
    own = {name: getattr(given, name) for name in ("mat", "labels") if getattr(given, name)}
    try:
        if unknown := sorted(own.keys() - inspect.signature(CHECKS[given.name]).parameters):
            raise ConfigError(f"--{unknown[0]}: {given.name} has no such option; leave it out")
        report = CHECKS[given.name](given.root, decode=not given.quick, workers=given.workers, **own)
        if given.write:
            write_bytes(expanded(given.write), "".join(f"{name}\n" for name in report.faulty).encode())
    except GeoDTRError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{report}\n")
    if not report.ok:
        sys.stdout.write(f"  {_whom_to_ask(report)}\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
