"""A recipe: what is trained on what, how. TOML in, checked, TOML out."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eyebright.classifier import CLASSIFIER, Classifier
from eyebright.data.augment import Augment, Share
from eyebright.data.images import Pictures
from eyebright.data.prepare import Prepare, channel_statistics
from eyebright.data.sources import load_data
from eyebright.data.split import VAL_FRACTION, Splits
from eyebright.device import Plan, choose_plan
from eyebright.errors import RecipeError, StoredFileError, did_you_mean
from eyebright.models.catalog import find_entry
from eyebright.models.create import check_options, is_file
from eyebright.models.published import WEIGHTS, find_weights

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Epochs = Annotated[int, Field(ge=1)]

ScheduleName = Literal["constant", "step", "multi_step", "cosine", "one_cycle", "linear", "plateau"]
OptimizerName = Literal["sgd", "adam", "adamw", "muon"]

# keys that mean something only together with a certain value of another key
_BELONGS_TO: dict[str, tuple[str, tuple[str, ...]]] = {
    "step_epochs": ("schedule", ("step",)),
    "milestones": ("schedule", ("multi_step",)),
    "factor": ("schedule", ("step", "multi_step", "plateau")),
    "patience_epochs": ("schedule", ("plateau",)),
    "momentum": ("optimizer", ("sgd", "muon")),
    "head_learning_rate": ("optimizer", ("muon",)),
    "bias_learning_rate": ("optimizer", ("muon",)),
    "sgd_momentum": ("optimizer", ("muon",)),
    "nesterov": ("optimizer", ("sgd",)),
    "betas": ("optimizer", ("adam", "adamw")),
    "stage_factor": ("optimizer", ("sgd", "adam", "adamw")),
    "start_decay": ("optimizer", ("sgd", "adam", "adamw")),
    "label_smoothing": ("loss", ("cross_entropy",)),
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(_Section):
    r"""Which pictures, and how they are parted where the source does not say.

    Attributes:
        source: a name, folder or archive (see `eyebright.load_data`); left empty, it has to be given when training.
        val_fraction: share of the training part that becomes validation; 0: none, and the last weights are kept.
        folds: into how many folds the training part is divided, instead of `val_fraction`.
        fold: which of them is validation, counted from 1. ``eyebright train RECIPE --folds 5`` trains on all of them.
        test_fraction: share that becomes the test part where the source has one part only.
        group_by: a regular expression whose first bracket, in a picture's path below the data's folder, tells what the
            picture is of: ``'patient(\d+)_'``. Pictures of one group stay in one part.
        split_seed: of these cuts; the run's own seed does not move pictures from part to part.
        skip_unreadable: whether pictures that cannot be read are left out; otherwise a run with one does not start.
        curation: a file of decisions about pictures (see `data.decisions`), applied before anything is cut.
    """

    source: str = ""
    val_fraction: Fraction = VAL_FRACTION
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Annotated[int, Field(ge=1)] | None = None
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    group_by: str | None = None
    split_seed: int = 0
    skip_unreadable: bool = False
    curation: str | None = None

    @model_validator(mode="after")
    def _folds_fit(self) -> DataSection:
        if (self.folds is None) != (self.fold is None):
            raise ValueError("folds and fold belong together; `eyebright train RECIPE --folds 5` sets both")
        if self.folds is not None and self.fold is not None and self.fold > self.folds:
            raise ValueError(f"fold = {self.fold} must be one of 1 to folds = {self.folds}")
        if self.folds is not None and self.val_fraction != VAL_FRACTION:
            raise ValueError("val_fraction and folds exclude each other: leave one out")
        return self

    def load(
        self,
        root: str | Path | None = None,
        *,
        skip_unreadable: bool = False,
        on_read: Callable[[], object] | None = None,
    ) -> Splits:
        """The pictures, in their parts.

        Args:
            root: where published sets are.
            skip_unreadable: whether pictures that cannot be read are left out, even if this does not say so.
            on_read: called for each picture that has been looked at.

        Raises:
            DataError: they cannot be found, or parted.
        """
        return load_data(
            self.source,
            root=root,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            folds=self.folds,
            fold=self.fold,
            group_by=self.group_by,
            seed=self.split_seed,
            skip_unreadable=self.skip_unreadable or skip_unreadable,
            curation=self.curation,
            on_read=on_read,
        )


class PrepareSection(Prepare):
    """Prepare's attributes, and whether mean and std are computed.

    Attributes:
        statistics: ``"given"``: `mean` and `std` as written; ``"train"``: computed from the training part.
    """

    statistics: Literal["given", "train"] = "given"

    @model_validator(mode="after")
    def _given_or_computed(self) -> PrepareSection:
        if self.statistics == "train" and ((self.mean, self.std) != ((0.0,), (1.0,))):
            raise ValueError('mean and std are computed with statistics = "train": leave them out')
        return self

    def settle(self, train: Pictures) -> Prepare:
        """The Prepare that these attributes make, with mean and std computed from the training part if so said."""
        given = Prepare.model_validate(self.model_dump(exclude={"statistics"}))
        if self.statistics == "given":
            return given
        mean, std = channel_statistics(train, given)
        return given.model_copy(update={"mean": mean, "std": std})


class ModelSection(BaseModel):
    """Which network. Every other key is an option of its builder.

    Attributes:
        name: of the network.
        weights: from which training begins: the name of published ones, a run, or a file; without, it is freshly
            initialised. What they want done to pictures stands for what `[prepare]` does not say.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str
    weights: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The builder's options."""
        return dict(self.model_extra or {})


class TrainingSection(_Section):
    """How it is trained.

    Attributes:
        epochs: times that every training picture is seen.
        batch_size: pictures for each update of the weights.
        optimizer: ``"sgd"``, ``"adam"`` (Kingma and Ba 2015), ``"adamw"`` (Loshchilov and Hutter 2019) or ``"muon"``
            (Jordan et al. 2024: for filters; the rest is left to SGD).
        learning_rate: the highest that the schedule reaches.
        momentum, nesterov: of SGD (Sutskever et al. 2013); with muon, the momentum of filters.
        head_learning_rate, bias_learning_rate: beside muon, the highest of the last layer, and of biases and
            normalisation; without: `learning_rate`.
        sgd_momentum: beside muon, Nesterov's, of everything but filters.
        betas: of Adam: decay of the averages of gradients and of their squares.
        weight_decay: pulls weights towards 0; with sgd and adam as a part of the gradient, with adamw beside it.
        decay_all: whether biases and normalisation decay too.
        schedule: how the learning rate goes on: ``"step"`` (every `step_epochs`), ``"multi_step"`` (at `milestones`),
            ``"cosine"`` and ``"linear"`` (to 0), ``"one_cycle"`` (up, then down to 0), ``"plateau"`` (when the
            monitored figure has not improved for `patience_epochs`), each but the middle three by `factor`.
        warmup_epochs: over which the learning rate first rises from 0, before any schedule.
        loss: ``"cross_entropy"``; ``"nll"``: negative log-likelihood on log-softmax, the same number written in two
            steps; ``"binary_cross_entropy"``: two classes, one output; or several labels a picture, an output each.
        label_smoothing: share of the target that is spread evenly over all classes (Szegedy et al. 2016 §7).
        class_weights: ``"equal"``; ``"balanced"``: in inverse proportion to the class's pictures; or a number a class.
        clip_norm: longest gradient, over all parameters; longer ones are shortened to it.
        ema_decay: of an exponential average of the weights, which is then what is evaluated and kept.
        skip_easy: ``[0.5, 0.6]``: of that half of the training pictures that were answered best when they were last
            seen, six tenths are left out of each epoch, others each time; the figures of training are then of harder
            pictures than those of validation (see `training.selection`).
        sides: ``[[0.0, 16], [0.5, 24]]``: from such a share of training on, pictures are shrunk to so many pixels on
            their shorter side, which saves operations while there is little to see in details yet (progressive
            resizing; Howard et al. in the DAWNBench entries of 2018). Validation and the classifier see whole ones.
        accumulate: into how many pieces a batch is cut so that it fits into memory; their gradients add up.
        auxiliary_weight: of the loss of each auxiliary head (0.3 in GoogLeNet's paper, §5); with 0 there are none. They
            are there in training alone: not in validation, nor in the classifier.
        monitor: figure on validation by which the best weights are told.
        keep: which weights are kept in the end; without validation the last ones.
        early_stop_epochs: stop when the monitored figure has not improved for so many epochs.
        freeze: which layers are not trained: ``["*", "!head"]`` all but the last; names of stages, state-dict prefixes,
            globs, positions; with ``!`` they are freed again (see `layers.freezing.find_frozen`). Their batch norm uses
            and keeps its running statistics.
        moving_statistics: patterns of frozen batch norms whose running statistics go on moving.
        head_epochs: for so many epochs the head alone is trained, then the rest with it (see `training.thawing`).
        stage_epochs: and then one more stage, from the last on, each so many epochs; 0: all at once.
        stage_factor: each stage's learning rate is that of the one after it times this; 1: all learn at one rate
            (Howard and Ruder 2018 take 0.38 for each layer).
        start_decay: pulls all but the head towards the weights that training began with, as a part of the gradient;
            `weight_decay` is then of the head alone (L2-SP; Li et al. 2018).
        embeddings: whether a network that is frozen but for its head sees each picture once, and only the head is
            trained, on what it is given; without augmentation (lecture: L3.8).
        observe_steps: every so many steps the inside of the network is looked at (see `training.observe`), and in the
            first and the last one; 0: never. It changes nothing in training.
        number_format: of the arithmetic; ``"auto"``: bfloat16 where the hardware multiplies it.
        execution: of steps: ``"plain"``: operation by operation; ``"graph"``: recorded as a CUDA graph;
            ``"compiled"``: through torch's compiler, which first takes a minute or more, on a GPU recorded, too;
            ``"auto"``: ``"graph"`` on a GPU, ``"plain"`` elsewhere.
    """

    epochs: Epochs
    batch_size: Annotated[int, Field(ge=1)] = 128
    optimizer: OptimizerName = "sgd"
    learning_rate: Positive
    momentum: Fraction = 0.9
    nesterov: bool = False
    head_learning_rate: Positive | None = None
    bias_learning_rate: Positive | None = None
    sgd_momentum: Fraction = 0.85
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    decay_all: bool = False
    schedule: ScheduleName = "constant"
    step_epochs: Epochs = 30
    milestones: tuple[Epochs, ...] = ()
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience_epochs: Epochs = 10
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    loss: Literal["cross_entropy", "nll", "binary_cross_entropy"] = "cross_entropy"
    label_smoothing: Fraction = 0.0
    class_weights: Literal["equal", "balanced"] | tuple[Positive, ...] = "equal"
    clip_norm: Positive | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    skip_easy: tuple[Share, Fraction] | None = None
    sides: tuple[tuple[Fraction, Annotated[int, Field(ge=1)]], ...] = ()
    accumulate: Annotated[int, Field(ge=1)] = 1
    monitor: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    keep: Literal["best", "last"] = "best"
    early_stop_epochs: Epochs | None = None
    auxiliary_weight: Fraction = 0.0
    freeze: tuple[str, ...] = ()
    moving_statistics: tuple[str, ...] = ()
    head_epochs: Annotated[int, Field(ge=0)] = 0
    stage_epochs: Annotated[int, Field(ge=0)] = 0
    stage_factor: Share = 1.0
    start_decay: Annotated[float, Field(ge=0)] = 0.0
    embeddings: bool = False
    observe_steps: Annotated[int, Field(ge=0)] = 100
    number_format: Literal["auto", "float32", "bfloat16"] = "auto"
    execution: Literal["auto", "plain", "graph", "compiled"] = "auto"

    @model_validator(mode="after")
    def _fits_together(self) -> TrainingSection:
        for key, (other, values) in _BELONGS_TO.items():
            given, default = getattr(self, key), type(self).model_fields[key].default
            if given != default and getattr(self, other) not in values:
                raise ValueError(f'{key} means nothing with {other} = "{getattr(self, other)}": leave it out')
        if self.schedule == "multi_step" and not self.milestones:
            raise ValueError('schedule = "multi_step" needs milestones = [epoch, epoch, …]')
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must ascend")
        begins = [begin for begin, _ in self.sides]
        if begins != sorted(set(begins)):
            raise ValueError("sides must be in the order of their shares of training, each share once")
        if self.moving_statistics and not self.freeze:
            raise ValueError("moving_statistics means nothing without freeze: leave it out")
        if self.head_epochs >= self.epochs:
            raise ValueError(f"head_epochs = {self.head_epochs} must be fewer than epochs = {self.epochs}")
        if self.stage_epochs and not self.head_epochs:
            raise ValueError("stage_epochs means nothing without head_epochs: the head is trained first")
        if self.embeddings and not self.freeze:
            raise ValueError('embeddings needs freeze = ["*", "!head"]: the network is the same for all epochs')
        if self.embeddings and (self.sides or self.head_epochs or self.auxiliary_weight or self.moving_statistics):
            raise ValueError("embeddings excludes sides, head_epochs, auxiliary_weight and moving_statistics")
        if self.embeddings and self.execution == "compiled":
            raise ValueError('embeddings trains the head alone, in which execution = "compiled" finds nothing to do')
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs = {self.warmup_epochs:g} must be fewer than epochs = {self.epochs}")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate = {self.accumulate} pieces of a batch of {self.batch_size} pictures")
        return self


class Recipe(_Section):
    """What is trained on what, how.

    Attributes:
        name: what a person calls it.
        about: one line that says what it is.
        data, prepare, augment, model, training: its sections.
    """

    name: str = "unnamed"
    about: str = ""
    data: DataSection = DataSection()
    prepare: PrepareSection = PrepareSection()
    augment: Augment = Augment()
    model: ModelSection
    training: TrainingSection

    @model_validator(mode="after")
    def _crop_has_a_size(self) -> Recipe:
        if self.augment.random_crop and self.prepare.crop is None:
            raise ValueError("random_crop takes its size from crop in [prepare]: set it")
        if self.augment.random_resized_crop and self.prepare.output_size is None:
            raise ValueError(
                "random_resized_crop takes its size from crop, or resize = [height, width], in [prepare]: set one"
            )
        return self

    @model_validator(mode="after")
    def _easy_ones_can_be_told(self) -> Recipe:
        if self.training.skip_easy is not None and (self.augment.mixup or self.augment.cutmix):
            raise ValueError("skip_easy tells easy pictures by their losses, which mixed ones have not: leave one out")
        return self

    @model_validator(mode="after")
    def _embeddings_are_of_the_pictures(self) -> Recipe:
        if self.training.embeddings and self.augment != Augment():
            raise ValueError("embeddings are of the pictures as they are: leave [augment] out")
        if self.training.start_decay and self.model.weights is None:
            raise ValueError("start_decay pulls towards weights that were trained: name some as model.weights")
        return self

    def plan(self, device: str = "auto") -> Plan:
        """How the arithmetic of this training is carried out on this machine, see `eyebright.device.choose_plan`.

        Raises:
            DeviceError: no such device here, or it cannot carry out steps as the recipe wants them.
        """
        return choose_plan(device, self.training.number_format, execution=self.training.execution)

    def to_toml(self) -> str:
        """The whole recipe, defaults included, as TOML that `load_recipe` reads back to an equal one."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def __str__(self) -> str:
        return self.to_toml()


def make_recipe(values: dict[str, Any]) -> Recipe:
    """Checks plain values and makes a recipe of them.

    Raises:
        RecipeError: an unknown key (names the nearest known one), a value out of range, parts that do not fit.
        ModelError: `[model]` does not fit the network's builder, or there are no such weights.
    """
    try:
        recipe = Recipe.model_validate(_with_preprocessing(values))
    except ValidationError as error:
        raise _as_recipe_error(error, str(values.get("name", "")) or "recipe") from None
    find_entry(recipe.model.name)
    check_options(recipe.model.name, recipe.model.options)
    weights = recipe.model.weights
    if weights is not None and not is_file(weights):
        find_weights(recipe.model.name, weights)
    return recipe


def _with_preprocessing(values: dict[str, Any]) -> dict[str, Any]:
    """Where the weights say how pictures are prepared for them, that stands for what `[prepare]` does not say.

    A run as weights becomes its classifier's file.
    """
    model, prepare = values.get("model"), values.get("prepare", {})
    if not isinstance(model, dict) or not isinstance(prepare, dict):
        return values
    weights = str(model.get("weights"))
    if (of_run := Path(weights) / CLASSIFIER).is_file():
        weights = str(of_run)
        values = values | {"model": model | {"weights": weights}}
    if (found := _preprocessing(str(model.get("name")), weights)) is None:
        return values
    theirs = found.model_dump(mode="json", exclude_none=True)
    if prepare:
        computed = "statistics" in prepare
        theirs = {key: value for key, value in theirs.items() if key in ("mean", "std") and not computed}
    return values | {"prepare": theirs | prepare}


def _preprocessing(name: str, weights: str) -> Prepare | None:
    """What published weights, or a classifier's, want done to pictures; None: they do not say."""
    if published := WEIGHTS.get(name, {}).get(weights):
        return published.prepare
    if is_file(weights):
        with suppress(StoredFileError):  # weights alone
            return Classifier.load(weights, device="cpu").prepare
    return None


def load_recipe(source: str | Path | Recipe, changes: Iterable[str] = ()) -> Recipe:
    """A recipe by name or from a file, with changes.

    Args:
        source: the name of a recipe that ships with eyebright, or a path to a TOML file. It may say
            ``extends = "other"``: a name, or a path relative to it; its own keys then stand above the other's.
        changes: ``"training.epochs=3"`` and the like; the value is TOML, or else text.

    Raises:
        RecipeError: no such recipe, or it is not right.

    >>> load_recipe("lenet5-digits", ["training.epochs=3"]).training.epochs
    3
    """
    if isinstance(source, Recipe):
        values = source.model_dump(mode="json", exclude_none=True)
    else:
        values = _read(_find(str(source), Path()), ())
    for change in changes:
        _change(values, change)
    return make_recipe(values)


def list_recipes() -> list[str]:
    """Names of the recipes that ship with eyebright."""
    folder = resources.files("eyebright.recipes")
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def read_recipe_text(name: str) -> str:
    """The text of a recipe that ships with eyebright, comments included.

    Raises:
        RecipeError: there is none of this name.
    """
    return _find(name, Path()).read_text(encoding="utf-8")


def _find(source: str, beside: Path) -> Traversable | Path:
    path = beside / source
    if source.endswith(".toml") or path.is_file():
        if path.is_file():
            return path
        raise RecipeError(
            f"there is no recipe file {path}",
            expected="a TOML file",
            remedy="check the path, or see the names that `eyebright recipes` lists",
        )
    if source in list_recipes():
        return resources.files("eyebright.recipes") / f"{source}.toml"
    raise RecipeError(
        f"unknown recipe '{source}'",
        expected="the path of a .toml file, or a name that `eyebright recipes` lists",
        remedy=did_you_mean(source, list_recipes()) or "see `eyebright recipes`",
    )


def _read(file: Traversable | Path, above: tuple[str, ...]) -> dict[str, Any]:
    if str(file) in above:
        raise RecipeError(
            f"recipes extend each other in a circle: {' → '.join([*above, str(file)])}",
            expected="a recipe at the end that extends none",
            remedy="take one `extends` out",
        )
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(
            f"cannot read the recipe {file}: {error}",
            expected="a TOML file, as `eyebright recipes lenet5-digits` prints one",
            remedy="correct it at the place named",
        ) from error
    values.setdefault("name", file.name.removesuffix(".toml"))
    if "extends" not in values:
        return values
    beside = file.parent if isinstance(file, Path) else Path()
    base = _read(_find(str(values.pop("extends")), beside), (*above, str(file)))
    return _merge(base, values)


def _merge(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in values.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _change(values: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    section, dot, name = key.strip().partition(".")
    if not equals or not dot or not name:
        raise RecipeError(
            f"cannot understand the change '{change}'",
            expected="section.key=value, for example training.epochs=3",
            remedy="write the section's name, a dot, the key, an equals sign and the value",
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    target = values.setdefault(section, {})
    if not isinstance(target, dict):
        raise RecipeError(
            f"'{section}' in the change '{change}' is not a section",
            expected=f"one of {', '.join(_sections())}",
            remedy="write section.key=value",
        )
    target[name] = value


def _sections() -> dict[str, type[BaseModel]]:
    fields = {name: field.annotation for name, field in Recipe.model_fields.items()}
    return {name: kind for name, kind in fields.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def _as_recipe_error(error: ValidationError, name: str) -> RecipeError:
    """The first thing that is wrong, in words."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if not _is_type_tag(part))
    if first["type"] == "extra_forbidden":
        section, _, key = place.rpartition(".")
        known = list(_sections()[section].model_fields) if section in _sections() else list(Recipe.model_fields)
        return RecipeError(
            f"unknown key '{key}'" + (f" in [{section}]" if section else "") + f" of recipe '{name}'",
            expected=f"one of {', '.join(known)}",
            remedy=did_you_mean(key, known) or "take it out",
        )
    if first["type"] == "missing":
        return RecipeError(
            f"'{place}' is missing in recipe '{name}'",
            expected="the sections [model] with name, [training] with epochs and learning_rate",
            remedy="add it, or begin with a recipe that `eyebright recipes` lists",
        )
    message = str(first["msg"]).removeprefix("Value error, ")
    given = "" if isinstance(first["input"], dict | BaseModel) else f" = {first['input']!r}"
    return RecipeError(
        f"recipe '{name}': {place or 'its sections'}{given} will not do",
        expected=message[0].lower() + message[1:],
        remedy="correct the value",
    )


def _is_type_tag(part: int | str) -> bool:
    """Pydantic names the members of a union in an error's place; a reader has no use for that."""
    return isinstance(part, str) and (part in ("int", "float", "str") or "[" in part)


SCHEDULES: tuple[str, ...] = get_args(ScheduleName)
OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)
