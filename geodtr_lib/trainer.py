"""Training's steps and epochs: a model, its optimiser, and where the run stands, which goes on from a stored state to the bit.

Every draw is a function of the seed, the epoch and the step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from geodtr_lib import run_folder
from geodtr_lib.config import RunConfig
from geodtr_lib.data.base import PairDataset
from geodtr_lib.data.covering import covering_tiles, turn_offset
from geodtr_lib.data.loading import ahead, read_rows
from geodtr_lib.distributed import ALONE, Ranks, synchronise
from geodtr_lib.errors import ConfigError, DatasetError, RunError
from geodtr_lib.evaluation import embed_dataset
from geodtr_lib.finite import FiniteSteps
from geodtr_lib.hard_batches import covers_of, ground_neighbours, neighbour_batches, similarity_neighbours
from geodtr_lib.losses_overlap import tile_overlap
from geodtr_lib.memory import kept_memory
from geodtr_lib.models import build_model
from geodtr_lib.models.base import CrossViewModel
from geodtr_lib.objective import Beside, Parts, TwoCores, backward, loss_names
from geodtr_lib.sampling import Batch, draw_layouts, epoch_batches, generator_for, make_views, one_to_one, policy_named, seed_for
from geodtr_lib.schedule import learning_rate_factor
from geodtr_lib.shares import Share, SharedGenerator
from geodtr_lib.tensorboard_log import TensorBoardLog

CURVE_POINTS = 10
"""Points of the loss curve in an epoch: short trainings have few epochs."""


@dataclass
class Progress:
    """Where a run stands.

    ``before`` are the steps of the finished epochs, which may differ in length. ``sums`` are of the unfinished epoch: losses, steps;
    ``since`` is what they were at the last point of ``curve`` in it; ``neighbours`` is of the epoch of this number.
    """

    epoch: int = 0
    step: int = 0
    before: int = 0
    seconds: float = 0.0
    pairs: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    neighbours: tuple[int, Tensor] | None = None
    skipped_pairs: int = 0
    skipped_steps: int = 0

    @property
    def steps(self) -> int:
        """Steps since the beginning of the training, those included that were skipped as faulty."""
        return self.before + self.step

    def add_point(self, sums: Mapping[str, float], taken: int) -> None:
        """Add to the curve the means of the losses since its last point, if steps were taken.

        Args:
            sums: of each loss over the steps of this epoch.
            taken: how many steps these are.
        """
        passed = taken - self.since.get("steps", 0)
        if passed:
            means = {name: (value - self.since.get(name, 0.0)) / passed for name, value in sums.items()}
            self.curve.append({"step": self.steps, **means})
            self.since = {"steps": taken, **sums}


class Trainer:
    """A model, its optimiser and where the run stands.

    Args:
        config: with 'auto' values resolved (:func:`resolve_machine`).
        data: the training split.
        ranks: the processes that every batch is spread over; each has a trainer, and all make the same steps.
    """

    def __init__(self, config: RunConfig, data: PairDataset, ranks: Ranks = ALONE) -> None:
        if len(data) < 2:
            raise ConfigError(f"{data!r} is too small to train on: a batch needs two pairs")
        self.config, self.data, self.ranks = config, data, ranks
        self.device = torch.device(config.device)
        self.policy = policy_named(config.sampling)
        torch.manual_seed(seed_for(config.seed, "model"))
        model = build_model(config).to(self.device)
        if config.channels_last:
            model = model.to(memory_format=torch.channels_last)
        if ranks.size > 1:
            synchronise(model)
        self.model: CrossViewModel = model
        self.forward: Any = torch.compile(model) if config.compile else model
        self.optimizer = torch.optim.AdamW(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=config.lr,
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        # Dropout and stochastic depth would draw from one generator on two threads, in no fixed order.
        drops = config.dropout > 0 or any(isinstance(module, DropPath) and module.drop_prob for module in model.modules())
        alone = ranks.size == 1 and self.device.type == "cpu" and torch.get_num_threads() > 1 and not drops and not config.compile
        self.covering = covering_tiles(data) if config.overlap_weight or config.offset_weight else None
        self.two_cores = TwoCores() if alone and model.independent and self.covering is None else None
        self.backward: Callable[..., Parts] = self.two_cores.backward if self.two_cores else backward
        self.finite = FiniteSteps(model, at_once=config.skip_faulty or self.device.type != "cuda", keep_statistics=config.skip_faulty)
        self.shares: dict[tuple[int, int], Share] = {}  # of the steps whose batch is not here as a whole, by epoch and step
        self.checkpoint = ""  # which one the run would go on from
        self.progress = Progress()
        self._lengths: dict[int, int] = {}  # steps of the epochs whose batches are known, by epoch
        self.batches(0)

    @contextmanager
    def settings(self) -> Iterator[None]:
        """What the process is set to while this trains: threads, TF32, and memory that it keeps."""
        tf32, on_cpu = self.config.precision == "bf16", self.device.type == "cpu"
        with one_thread_if(self.two_cores is not None), tensor_float_32(tf32), kept_memory(on_cpu):
            yield

    def batches(self, epoch: int) -> list[Batch]:
        """The places of each step of an epoch. Those of ``similar`` hang on the weights at the time of the first call for the epoch."""
        data, config = self.data, self.config
        batches = epoch_batches(
            data.positive, data.semi_positive, config.batch_size, config.seed, epoch,
            as_released=bool(config.options.get("overlapping_negatives", False)),
        )  # fmt: skip
        if config.batches != "random" and (neighbours := self.neighbours(epoch)) is not None:
            items, cover = np.concatenate([queries for queries, _ in batches]), covers_of(data.positive, data.semi_positive)
            batches = neighbour_batches(items, neighbours, cover, config.batch_size, config.seed, epoch)
        self._lengths[epoch] = len(batches)
        return batches

    def neighbours(self, epoch: int) -> np.ndarray | None:
        """References that each query may be confused with, N x batch size; None before anything is known of them.

        Of several processes all make this call: they embed together, and go by what the first one finds.
        """
        data, config, cover = self.data, self.config, covers_of(self.data.positive, self.data.semi_positive)
        stored = self.progress.neighbours
        if stored is not None and stored[0] == epoch:
            return stored[1].cpu().numpy()  # a state is loaded to the device that trains
        where = (data.query_position, data.reference_position, data.query_location, data.reference_location)
        if config.batches == "near" or epoch == 0:
            if config.batches == "similar" and (where[0] is None and where[2] is None):
                return None
            found = ground_neighbours(cover, config.batch_size, *where)
        else:
            seeded = config.replace(data_seed=seed_for(config.seed, "headings", epoch) % 2**31)
            embedded = embed_dataset(self.model, data, seeded, self.device, ranks=self.ranks)
            query, reference, own, k = embedded.query, embedded.reference, self.model.similarity, config.batch_size
            block = 1024 if embedded.similarity is None else 64  # queries: one that is compared at every angle takes as many times more
            # Processes that round differently would make different batches, and wait for each other.
            found = self.ranks.agreed(lambda: similarity_neighbours(query, reference, cover, k, own, block))
        self.progress.neighbours = (epoch, torch.from_numpy(found.astype(np.int32)))
        return found

    def steps_in(self, epoch: int) -> int:
        """Steps of an epoch; of one whose batches are not known yet as many as of the last one where they are."""
        return self._lengths.get(epoch) or next(reversed(self._lengths.values()))

    @property
    def expected_steps(self) -> int:
        """Steps of the whole training, if all epochs to come are as long as this one."""
        progress = self.progress
        return progress.before + (self.config.epochs - progress.epoch) * self.steps_in(progress.epoch)

    def learning_rate(self, epoch: int, step: int) -> float:
        """The configuration's at a step: by the part of the training that is over, so epochs of any length have the same share."""
        config, steps = self.config, self.steps_in(epoch)
        if config.schedule == "per_epoch":
            return config.lr * learning_rate_factor("per_epoch", epoch, config.warmup_epochs, config.epochs)
        return config.lr * learning_rate_factor("per_step", epoch * steps + step, config.warmup_epochs * steps, config.epochs * steps)

    def views(self, batch: Batch, epoch: int, step: int) -> tuple[Tensor, ...]:
        """The images that one step takes, on the device: B x 3 x H x W each, twice as many with CHSG.

        Aerial, ground, and, where losses ask for them, other tiles that show the places.
        """
        return self._make_views(epoch, step, *(images.to(self.device, non_blocking=True) for images in self._read(batch, epoch, step)))

    def _read(self, batch: Batch, epoch: int, step: int) -> tuple[Tensor, ...]:
        """The decoded images of a batch, uint8; only those that this process takes."""
        queries, references = batch
        others = None if self.covering is None else self._covering_tiles(queries, epoch, step)[0]

        def read(rows: np.ndarray) -> tuple[Tensor, ...]:
            images = self.data.aerial(references[rows]), self.data.ground(queries[rows])
            return images if others is None else (*images, self.data.aerial(others[rows]))

        skip = self.config.skip_faulty
        try:
            images, rows = read_rows(read, np.array(self.ranks.share(len(queries)), dtype=np.int64), skip)
        except DatasetError as error:
            hint = "" if skip else "; or set skip_faulty=True to go on without such pairs"
            raise DatasetError(f"epoch {epoch + 1}, step {step + 1}: {error}{hint}") from error
        if len(rows) < len(queries):
            self.shares[epoch, step] = Share(torch.from_numpy(rows), len(queries))
        return images

    def _covering_tiles(self, queries: np.ndarray, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """For each query another tile that shows it, and the offsets; see :class:`CoveringTiles`."""
        assert self.covering is not None
        return self.covering.draw(queries, np.random.default_rng(seed_for(self.config.seed, "covering", epoch, step)))

    def beside(self, queries: np.ndarray, epoch: int, step: int, covering: Tensor | None = None) -> Beside:
        """What the configuration's further losses need to know of a step.

        Args:
            covering: the images behind aerial and ground of :meth:`views`, if there are.
        """
        config, ranks = self.config, self.ranks
        share = self.shares.get((epoch, step)) or Share.whole(len(queries))
        known = Beside()
        if ranks.size > 1:
            # Which pairs cannot be read is known only to the process that takes them.
            pairs = ranks.exchanged(len(share.rows), self.device) if config.skip_faulty else ranks.sizes(len(queries))
            known = Beside(ranks=ranks, sizes=tuple(self.policy.views * size for size in pairs))
        if not config.consistency_weight and covering is None:
            return known
        # The views' layouts are the first that their generator gives.
        layouts_drawn = draw_layouts(self.policy, len(queries), generator_for(config.seed, "views", epoch, step), config.heading)
        flip, turns = (drawn[:, share.rows] for drawn in layouts_drawn)
        known = replace(known, flip=flip.to(self.device, non_blocking=True), turns=turns.to(self.device, non_blocking=True))
        if covering is None:
            return known
        drawn = self._covering_tiles(queries, epoch, step)[1][share.rows.numpy()]  # B x 2 x 2
        layouts = (np.broadcast_to(values.numpy()[:, :, None], (*values.shape, 2)) for values in (flip, turns))
        offset = torch.from_numpy(turn_offset(np.broadcast_to(drawn, (self.policy.views, *drawn.shape)), *layouts)).flatten(0, 1)
        overlap = tile_overlap(offset)  # VB x 2
        return replace(known, covering=covering, offset=offset.to(self.device), overlap=(overlap[:, 1] / overlap[:, 0]).to(self.device))

    def _make_views(self, epoch: int, step: int, aerial: Tensor, ground: Tensor, *covering: Tensor) -> tuple[Tensor, ...]:
        config = self.config
        if covering:  # the same draws, so the other tile gets its pair's layout
            others = self._make_views(epoch, step, covering[0], ground)
            return *self._make_views(epoch, step, aerial, ground), others[0]
        aerial, ground = make_views(
            aerial, ground, self.policy, generator_for(config.seed, "views", epoch, step), aerial_size=config.aerial_size,
            ground_size=config.ground_size, polar=config.polar, aerial_is_polar=self.data.aerial_is_polar, strength=config.semantic,
            normalisation=config.normalisation, fov=config.fov, heading=config.heading, share=self.shares.get((epoch, step)),
        )  # fmt: skip
        if config.channels_last:
            aerial, ground = aerial.contiguous(memory_format=torch.channels_last), ground.contiguous(memory_format=torch.channels_last)
        return aerial, ground

    def epoch_views(self, batches: Sequence[Batch], epoch: int, start: int = 0) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """Number and images of each step of an epoch from ``start`` on, made while the step before is computed.

        A GPU makes the views itself, of uint8 images. Every draw is a function of epoch and step, so nothing hangs on who is faster.
        """
        steps = range(start, len(batches))
        if self.device.type == "cpu":
            yield from ahead(steps, lambda step: self.views(batches[step], epoch, step))
        else:
            for step, images in ahead(steps, lambda step: self._read(batches[step], epoch, step), self.device):
                yield step, self._make_views(epoch, step, *images)

    def train_step(self, aerial: Tensor, ground: Tensor, epoch: int, step: int, beside: Beside | None = None) -> dict[str, Tensor]:
        """One optimiser step on the images of :meth:`views` and what is :meth:`beside` them; returns detached losses."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(epoch, step)
        # Dropout draws from torch's own generators; seeding them per step makes a resumed run draw the same.
        others = (self.ranks.rank,) if self.ranks.rank else ()  # other rows drop other values
        torch.manual_seed(seed_for(config.seed, "dropout", epoch, step, *others))
        where = "cuda" if self.device.type == "cuda" else "cpu"
        draws: list[Any] = [
            torch.Generator(where).manual_seed(seed_for(config.seed, "counterfactual", view, epoch, step)) for view in range(2)
        ]
        if share := self.shares.pop((epoch, step), None):
            views = self.policy.views
            draws = [SharedGenerator(generator, share.views(views), views * share.total) for generator in draws]
        self.optimizer.zero_grad(set_to_none=True)
        self.finite.before()
        parts = self.backward(self.forward, aerial, ground, config, (draws[0], draws[1]), beside or Beside())
        self.ranks.sum_gradients(self.model.parameters())
        norm = self._clip_gradients()
        if self.finite.allows(step, parts["loss"], norm):
            self.optimizer.step()
        return parts

    def _clip_gradients(self) -> Tensor:
        """Scale the gradients to the configuration's largest norm; gives the norm before."""
        trained = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
        # Where asking the device is cheap, gradients that are short enough are left alone: otherwise they are multiplied by 1.
        if not self.finite.at_once or bool(norm > self.config.clip):
            nn.utils.clip_grads_with_norm_(trained, self.config.clip, norm)
        return norm

    def train_epoch(self, run_dir: Path, bar: Any, log: TensorBoardLog | None = None) -> None:
        """The rest of the current epoch, with checkpoints between when it is long.

        Raises:
            DatasetError: an image cannot be read; names the step.
            RunError: a loss or gradient is not finite; names the step, its pairs and the last good checkpoint.
        """
        progress, config = self.progress, self.config
        self.model.train()
        started = saved = time.monotonic()
        batches = self.batches(progress.epoch)
        bar.total = self.expected_steps
        names = loss_names(config)
        exact = torch.float32 if self.device.type == "mps" else torch.float64  # MPS has no float64
        totals = {name: torch.tensor(progress.sums.get(name, 0.0), device=self.device, dtype=exact) for name in names}
        taken = int(progress.sums.get("steps", progress.step))
        points = {round((part + 1) * len(batches) / CURVE_POINTS) for part in range(CURVE_POINTS)}
        for step, (aerial, ground, *covering) in self.epoch_views(batches, progress.epoch, progress.step):
            queries, _ = batches[step]
            beside = self.beside(queries, progress.epoch, step, *covering)
            pairs = (sum(beside.sizes) or len(aerial)) // self.policy.views
            progress.skipped_pairs += len(queries) - pairs
            progress.step, last = step + 1, step + 1 == len(batches)
            if pairs < 2:  # what could be read of the batch has no negative
                progress.skipped_pairs += pairs
                progress.skipped_steps += 1
                self.shares.pop((progress.epoch, step), None)
                bar.update(1)
                continue
            losses = self.train_step(aerial, ground, progress.epoch, step, beside)
            now = time.monotonic()
            due = now - saved > 60 * config.checkpoint_minutes and not last
            seen = step % 10 == 9 or last or due  # asking the device is a sync, so not at every step
            if (seen or self.finite.at_once) and (faulty := self.finite.faulty()):
                if not config.skip_faulty:
                    raise self._not_finite(batches, *faulty, run_dir)
                progress.skipped_steps += 1
            else:
                taken += 1
                progress.pairs += pairs
                for name, value in losses.items():
                    totals[name] += value
            if progress.step in points:
                progress.add_point({name: float(value) for name, value in totals.items()}, taken)
            bar.update(1)
            if seen and taken:
                rate = progress.pairs / (progress.seconds + now - started)
                mean = float(totals["loss"]) / taken
                bar.set_postfix_str(f"epoch {progress.epoch + 1}/{config.epochs} loss {mean:.4f} {rate:.0f} pairs/s")
                if log is not None:
                    log.add(progress.steps, {name: float(value) for name, value in losses.items()})
            if due:
                progress.sums = {**{name: float(value) for name, value in totals.items()}, "steps": taken}
                progress.seconds += now - started
                self.save(run_dir)
                started = saved = time.monotonic()
        if not taken:
            raise RunError(f"no step of epoch {progress.epoch + 1} could be taken; all {len(batches)} were skipped as faulty")
        progress.seconds += time.monotonic() - started
        record = {name: float(value) / taken for name, value in totals.items()}
        progress.history.append({"epoch": progress.epoch + 1, "lr": self.learning_rate(progress.epoch, len(batches) - 1), **record})
        progress.before += len(batches)
        progress.epoch, progress.step, progress.sums, progress.since = progress.epoch + 1, 0, {}, {}

    def _not_finite(self, batches: Sequence[Batch], step: int, what: str, run_dir: Path) -> RunError:
        names = [str(self.data.query_ids[query]) for query in batches[step][0]]
        shown = f"{', '.join(names[:64])}{', ...' if len(names) > 64 else ''}"
        where = f"the last good checkpoint is {self.checkpoint}" if self.checkpoint else f"there is no checkpoint in {run_dir} yet"
        return RunError(
            f"{what} in epoch {self.progress.epoch + 1} at step {step + 1} (queries [{shown}]); {where}; a lower lr may help "
            f"(now {self.config.lr:g}), or skip_faulty=True goes on without such steps"
        )

    def save(self, run_dir: Path) -> None:
        """Everything that resuming needs, in one file. Of several processes the first writes it."""
        if not self.ranks.first:
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": self.progress.__dict__,
            "identity": run_folder.identity(self.config),
            "data": self.data.hash,
        }
        run_folder.save_state(run_dir, state)
        run_folder.note_progress(run_dir, steps=self.progress.steps, of=self.expected_steps, seconds=self.progress.seconds)
        self._went_on_from(run_dir)

    def restore(self, run_dir: Path) -> bool:
        """Continue from ``state.pt`` if there is one.

        Raises:
            CheckpointError: the file is damaged, or of another run.
            RunError: it is of a training on other data.
        """
        state = run_folder.load_state(run_dir, self.device)
        if state is None:
            return False
        if state.get("data", self.data.hash) != self.data.hash:
            raise run_folder.other_data(run_dir)
        try:
            own = run_folder.identity(self.config)
            differs = [name for name, value in state["identity"].items() if own.get(name, value) != value]
            if differs:
                raise ValueError(f"it is of another run: {', '.join(differs[:5])} differ")
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.progress = Progress(**{"before": self._finished_steps(state["progress"]), **state["progress"]})
        except Exception as error:  # whatever a file that is no state of this model lacks
            raise run_folder.damaged_state(run_dir / run_folder.STATE, error) from None
        self._went_on_from(run_dir)
        return True

    def _finished_steps(self, stored: Mapping[str, Any]) -> int:
        """Steps of the finished epochs of a state of an earlier version, which did not count them and took all epochs for equally long."""
        config, data, epochs = self.config, self.data, int(stored["epoch"])
        if "before" in stored or not epochs:
            return 0
        as_released = config.batches == "random" and bool(config.options.get("overlapping_negatives", False))
        if not as_released and not one_to_one(data.positive, data.semi_positive):
            raise ValueError("it is of an earlier version, which had other learning rates on data whose epochs differ in length")
        return epochs * self.steps_in(0)

    def _went_on_from(self, run_dir: Path) -> None:
        progress = self.progress
        self.checkpoint = f"{run_dir / run_folder.STATE} (epoch {progress.epoch + 1}, after step {progress.step})"


@contextmanager
def tensor_float_32(wanted: bool) -> Iterator[None]:
    """On CUDA, let what stays in float32 beside bf16 use tensor cores too (TF32); only here, since ranking needs whole float32."""
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        if wanted:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution


@contextmanager
def one_thread_if(wanted: bool) -> Iterator[None]:
    """Keep this thread's operations to one core, so that they do not wait for the cores that the branches use."""
    before = torch.get_num_threads()
    try:
        if wanted:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)
