"""A training from its specification to its outcome: read, choose, prepare, step, write."""

from __future__ import annotations

import errno
import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from tunesmith.disk_space import NotEnoughSpaceError, require_space
from tunesmith.engine.models.devices import best_dtype, pick_device
from tunesmith.engine.training import distributed
from tunesmith.engine.training.checkpoint import CheckpointStore, Position
from tunesmith.engine.training.classification import Classes, find_classes
from tunesmith.engine.training.errors import TrainingError
from tunesmith.engine.training.examples import Example, read_examples
from tunesmith.engine.training.frozen_layer_cache import (
    FrozenLayerCache,
    frozen_layer_cache_bytes,
    write_frozen_layer_cache,
)
from tunesmith.engine.training.hyperparameters import base_learning_rate, resolve_hyperparameters
from tunesmith.engine.training.loop import SNAPSHOT_EPOCHS, Loop, Schedule, write_folder
from tunesmith.engine.training.lora import add_adapter
from tunesmith.engine.training.loss import ExampleSet, LossComputation
from tunesmith.engine.training.preference import Preference, read_pairs, with_reference
from tunesmith.engine.training.recipes import ChosenRecipe, choose_recipe
from tunesmith.engine.training.spec import TrainingOutcome, TrainingPlan
from tunesmith.engine.training.split_model import SplitModel, load_split_model
from tunesmith.engine.training.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import nn

    from tunesmith.engine.training.checkpoint import Checkpoints
    from tunesmith.engine.training.errors import ErrorCode
    from tunesmith.engine.training.objective import Objective
    from tunesmith.engine.training.spec import StopRequest, TrainingObserver, TrainingSpec

__all__ = ["run"]

_TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 16384}
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_FULL_WEIGHT_DECAY = 0.01
_TOLD = "training.json"
_SETTLED = "settled.json"
_DISK_FULL = (
    "The disk is full, so the training cannot write its checkpoints. Free some space on the disk "
    "of the state folder, then start the job anew."
)
_OUT_OF_MEMORY = (
    "The memory does not suffice for this training. A smaller batch_size, shorter examples or a "
    "smaller base model need less."
)


@dataclass(frozen=True, slots=True)
class _Data:
    tokenizer: Any
    train: list[Example]
    validation: list[Example]
    classes: Classes | None
    rows: int


class _StopCheck:
    """Asks between two parts of the work whether to go on, and keeps the request that said no."""

    def __init__(self, observer: TrainingObserver) -> None:
        self._observer = observer
        self.request: StopRequest | None = None

    def __call__(self) -> bool:
        self.request = self._observer.stop_requested()
        return self.request is None


@dataclass(frozen=True, slots=True)
class _Trained:
    """What is trained, and how it is written."""

    parameters: dict[str, nn.Parameter]
    save: Callable[[Path], None]


def run(
    spec: TrainingSpec, observer: TrainingObserver, checkpoints: Checkpoints | None = None
) -> TrainingOutcome:
    """Train; see `tunesmith.engine.training.train`.

    Where a `torch.distributed` process group is initialised, each of its processes calls this,
    and they share every batch; only the first one's observer is told anything of use.

    Args:
        spec: What to do.
        observer: Whom to tell.
        checkpoints: What to go on from; default: a folder in `work_path`.
    """
    with _friendly_errors():
        done = _already_done(spec)
        if done is not None:
            return done
        store = checkpoints or CheckpointStore(spec.work_path / "checkpoints")
        return _run(_settled(spec), observer, store)


def _run(
    spec: TrainingSpec, observer: TrainingObserver, checkpoints: Checkpoints
) -> TrainingOutcome:
    spec.work_path.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(spec.threads or torch.get_num_threads())
    network = _load(spec)
    data = _read(spec, network)
    values = resolve_hyperparameters(spec, data.rows)
    epoch_tokens = sum(map(len, data.train))
    choice = choose_recipe(spec, network, epoch_tokens, values.n_epochs, torch.get_num_threads())
    if not network.agrees_with_itself(torch.from_numpy(data.train[0].tokens), choice.first_layer):
        msg = (
            f"A model of the kind {network.model.config.model_type!r} cannot be trained by "
            f"`{choice.recipe}`: run in pieces, it gives something else than whole."
        )
        raise TrainingError(msg, "invalid_model")
    _check_room(spec, network, choice, values.n_epochs)
    _settle(spec, choice)
    should_continue = _StopCheck(observer)
    sets = _sets(spec, network, choice, data, should_continue)
    if sets is None:
        return _outcome(spec, should_continue.request, Position())
    trained = _prepare(spec, network, choice, data.tokenizer)
    schedule = Schedule(
        values,
        examples=data.rows,
        peak_rate=base_learning_rate(spec, choice.recipe) * values.learning_rate_multiplier,
        weight_decay=_FULL_WEIGHT_DECAY if choice.recipe == "full" else 0.0,
    )
    with network.only_layers(choice.first_layer):
        objective = _objective(spec, network, choice, data, sets, should_continue)
        if objective is None:
            return _outcome(spec, should_continue.request, Position())
        loop = Loop(
            spec,
            observer,
            schedule=schedule,
            objective=objective,
            parameters=trained.parameters,
            save_model=trained.save,
            checkpoints=checkpoints,
        )
        observer.planned(
            TrainingPlan(
                hyperparameters=values,
                recipe=choice.recipe,
                reason=choice.reason,
                examples=data.rows,
                validation_examples=len(data.validation) * data.rows // len(data.train),
                tokens_per_epoch=epoch_tokens,
                total_steps=schedule.total_steps,
                start_step=loop.position.step,
            )
        )
        stopped = loop.run()
    if stopped is None and distributed.leads():
        _publish(spec, choice, trained, loop.position)
    return _outcome(spec, stopped, loop.position)


def _load(spec: TrainingSpec) -> SplitModel:
    device = pick_device()
    continued = spec.initial_adapter_path
    whole = continued is not None and not (continued / "adapter_config.json").is_file()
    folder = continued if whole and continued is not None else spec.base_path
    network = load_split_model(folder, best_dtype(device), device)
    # No dropout: it would make a resumed training differ from an undisturbed one.
    network.model.eval()
    return network


def _read(spec: TrainingSpec, network: SplitModel) -> _Data:
    from transformers import AutoTokenizer  # noqa: PLC0415 - slow to import

    tokenizer = AutoTokenizer.from_pretrained(
        spec.base_path, trust_remote_code=False, local_files_only=True
    )
    longest = getattr(network.model.config, "max_position_embeddings", spec.max_tokens)
    limit = min(spec.max_tokens, longest)

    def read(path: Path, prompt_loss_weight: float, code: ErrorCode) -> list[Example]:
        if spec.method == "dpo":
            return read_pairs(path, tokenizer, max_tokens=limit, code=code)
        return read_examples(
            path, tokenizer, prompt_loss_weight=prompt_loss_weight, max_tokens=limit, code=code
        )

    train = read(spec.training_path, spec.prompt_loss_weight, "invalid_training_file")
    validation: list[Example] = []
    if spec.validation_path is not None:
        validation = read(spec.validation_path, 0.0, "invalid_validation_file")
    classes = find_classes(spec, train, validation, tokenizer)
    rows = len(train) // 2 if spec.method == "dpo" else len(train)
    return _Data(tokenizer, train, validation, classes, rows)


def _objective(  # noqa: PLR0917 - each is a thing of its own
    spec: TrainingSpec,
    network: SplitModel,
    choice: ChosenRecipe,
    data: _Data,
    sets: tuple[ExampleSet, ExampleSet | None],
    should_continue: Callable[[], bool],
) -> Objective | None:
    """Return what to minimise; None if asked to stop while it is prepared."""
    scorer = LossComputation(
        network,
        tokens_at_once=_TOKENS_AT_ONCE[network.device.type],
        autocast=choice.recipe == "full" and best_dtype(network.device) == torch.bfloat16,
    )
    train, validation = sets
    if spec.method == "supervised":
        return Supervised(scorer, train, validation, data.classes)
    folder = spec.work_path
    pairs = with_reference(scorer, train, folder / "reference-train.npy", should_continue)
    tested = None
    if pairs is not None and validation is not None:
        tested = with_reference(
            scorer, validation, folder / "reference-validation.npy", should_continue
        )
        if tested is None:
            return None
    return None if pairs is None else Preference(scorer, pairs, tested, spec.dpo_beta)


def _prepare(
    spec: TrainingSpec, network: SplitModel, choice: ChosenRecipe, tokenizer: Any
) -> _Trained:
    """Make the model trainable as the recipe says."""
    if choice.shape is None:
        model = network.model.float().requires_grad_(requires_grad=True)
        return _Trained(
            dict(model.named_parameters()), lambda folder: _save_whole(model, tokenizer, folder)
        )
    adapter = add_adapter(
        network.model, network.layers_name, choice.shape, spec.base_model, spec.seed
    )
    if spec.initial_adapter_path is not None:
        adapter.load(spec.initial_adapter_path)
    return _Trained(adapter.parameters(), adapter.save)


def _save_whole(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write all weights in the precision that the base model has, with config and tokenizer."""
    dtype = best_dtype(next(model.parameters()).device)
    weights = {name: value.detach().to(dtype) for name, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=weights, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def _sets(
    spec: TrainingSpec,
    network: SplitModel,
    choice: ChosenRecipe,
    data: _Data,
    should_continue: Callable[[], bool],
) -> tuple[ExampleSet, ExampleSet | None] | None:
    """Return training and validation set; None if asked to stop while the trunk is computed."""
    named = {"train": data.train, "validation": data.validation}
    trunks: dict[str, FrozenLayerCache] = {}
    if choice.recipe == "fast":
        for name, examples in named.items():
            path = spec.work_path / f"trunk-{name}.bin"
            dtype = next(network.model.parameters()).dtype
            lengths = [len(example) for example in examples]
            write = partial(
                _write_trunk, spec, network, choice.first_layer, examples, path, should_continue
            )
            if not distributed.by_leader(write):
                return None
            if examples:
                trunks[name] = FrozenLayerCache(path, lengths, network.hidden_size, dtype)
    train = ExampleSet(data.train, trunks.get("train"))
    if not data.validation:
        return train, None
    return train, ExampleSet(data.validation, trunks.get("validation"))


def _write_trunk(  # noqa: PLR0917 - each is a thing of its own
    spec: TrainingSpec,
    network: SplitModel,
    layer: int,
    examples: list[Example],
    path: Path,
    should_continue: Callable[[], bool],
) -> bool:
    """Return False if asked to stop before the end."""
    if not path.exists():
        size = frozen_layer_cache_bytes(network, examples)
        require_space(spec.work_path, size, "keep what the frozen layers give")
    return write_frozen_layer_cache(network, layer, examples, path, should_continue)


def _settled(spec: TrainingSpec) -> TrainingSpec:
    """Return the job with what its first start settled: a resumed one must not choose anew."""
    try:
        text = (spec.work_path / _SETTLED).read_text(encoding="utf-8")
        return spec.model_copy(update=json.loads(text))
    except FileNotFoundError:
        return spec


def _check_room(
    spec: TrainingSpec, network: SplitModel, choice: ChosenRecipe, n_epochs: int
) -> None:
    """Refuse, before the first step, to train whole weights that the disk cannot take.

    Raises:
        NotEnoughSpaceError: The disk lacks room for checkpoints, snapshots and the model.
    """
    if choice.recipe != "full" or (spec.work_path / _SETTLED).exists():
        return
    numbers = sum(parameter.numel() for parameter in network.model.parameters())
    checkpoint = numbers * 4 * 3  # weights and two moments of each, in 32 bits
    model = numbers * best_dtype(network.device).itemsize
    models = min(n_epochs, SNAPSHOT_EPOCHS) + 1
    # Of checkpoints two are kept while a third is written.
    needed = 3 * checkpoint + models * model
    require_space(spec.work_path, needed, "train all weights, as the recipe `full` does")


def _settle(spec: TrainingSpec, choice: ChosenRecipe) -> None:
    path = spec.work_path / _SETTLED
    if distributed.leads() and not path.exists():
        settled = {"recipe": choice.recipe, "threads": torch.get_num_threads()}
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(settled) + "\n", encoding="utf-8")
        temporary.replace(path)


def _publish(
    spec: TrainingSpec, choice: ChosenRecipe, trained: _Trained, position: Position
) -> None:
    def save(folder: Path) -> None:
        trained.save(folder)
        told = {
            "base_model": spec.base_model,
            "recipe": choice.recipe,
            "steps": position.step,
            "trained_tokens": position.elapsed_tokens,
        }
        (folder / _TOLD).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")

    write_folder(spec.output_path, save)


def _already_done(spec: TrainingSpec) -> TrainingOutcome | None:
    """Return the outcome of a training that was killed after it had written its model."""
    try:
        told = json.loads((spec.output_path / _TOLD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    position = Position(step=told["steps"], elapsed_tokens=told["trained_tokens"])
    return _outcome(spec, None, position)


def _outcome(
    spec: TrainingSpec, stopped: StopRequest | None, position: Position
) -> TrainingOutcome:
    return TrainingOutcome(
        stopped=stopped,
        trained_tokens=position.elapsed_tokens,
        steps=position.step,
        results_path=spec.work_path / "results.csv",
        output_path=None if stopped else spec.output_path,
    )


@contextmanager
def _friendly_errors() -> Iterator[None]:
    """Turn the machine's ways of saying that it is full into errors with a way out."""
    try:
        yield
    except NotEnoughSpaceError as error:
        raise TrainingError(str(error), "disk_full") from error
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise TrainingError(_DISK_FULL, "disk_full") from error
        raise
    except SafetensorError as error:
        if "No space left" in str(error) or "os error 28" in str(error):
            raise TrainingError(_DISK_FULL, "disk_full") from error
        raise
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        out = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if out or "can't allocate memory" in text or "not enough memory" in text:
            raise TrainingError(_OUT_OF_MEMORY, "out_of_memory") from error
        raise
