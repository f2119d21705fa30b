"""What a training needs before its first step: model, examples, recipe, caches, objective.

Knows neither optimizer nor steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from tunesmith.disk_space import require_space
from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.models.chat_template import end_token_ids
from tunesmith.engine.models.devices import best_dtype, pick_device

from . import distributed
from .classification import Classes, find_classes
from .estimates import TOKENS_AT_ONCE
from .examples import Example, read_examples, tokenizer_template
from .frozen_layer_cache import (
    FrozenLayerCache,
    frozen_layer_cache_bytes,
    write_frozen_layer_cache,
)
from .hyperparameters import resolve_hyperparameters
from .liger import apply_liger
from .lora import Adapter, add_adapter
from .lora_layers import group_layers
from .loss import ExampleSet, LossComputation
from .memory_choice import MemoryChoice, memory_budget
from .memory_limit import MemoryLimit
from .model_proof import can_pack, proof_tokens
from .plain_model import PlainModel, add_peft_adapter, load_training_model
from .preference import Preference, read_pairs, with_reference
from .recipe_rules import (
    recipe_of,
    trains_experts,
    why_no_experts,
    why_no_four_bits,
    why_not_shared,
)
from .recipes import ChosenRecipe, Work, choose_recipe
from .sharding import ShardedModel, whole_tensors
from .supervised import Supervised
from .work_folder import SNAPSHOT_EPOCHS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import nn

    from tunesmith.engine.domain.errors import TrainingErrorCode
    from tunesmith.types.job_parameters import RecipeChoice

    from .memory_plan import MemoryPlan, OptimizerName
    from .objective import Objective
    from .preference import Pairs
    from .spec import ResolvedHyperparameters, TrainingSpec
    from .split_model import SplitModel
    from .work_folder import WorkFolder

# Tokens of a step up to which prepacked weights, and layers computed together, are worth their
# memory on a processor: in larger steps the products take nearly all of the time.
_SHORT_STEP = 256

__all__ = ["Data", "Preparation", "TrainableModel"]


@dataclass(frozen=True, slots=True)
class Data:
    """The tokenised files of a job.

    Attributes:
        tokenizer: The base model's tokenizer.
        train: Training examples; two for each row of preferences.
        validation: Validation examples, likewise; empty without a validation file.
        classes: The classes of the classification metrics, or None.
        rows: Rows of the training file.
        tokens: Tokens of all training examples.
    """

    tokenizer: Any
    train: list[Example]
    validation: list[Example]
    classes: Classes | None
    rows: int
    tokens: int

    @property
    def longest(self) -> int:
        """Most tokens that must go through the layers together: of an example, or of a pair."""
        lengths = list(map(len, self.train))
        if self.rows == len(lengths):
            return max(lengths)
        return 2 * max(lengths)

    def notes(self) -> Iterator[tuple[str, str]]:
        """Yield what to tell about the rows of the training file: a key and a sentence."""
        omitted = sum(example.omitted_reasoning for example in self.train)
        if omitted:
            message = (
                f"{omitted:,} replies have reasoning that is not learned: the model's chat "
                "template has no place for it."
            )
            yield "reasoning-omitted", message
        lines = len({example.line for example in self.train})
        if lines < self.rows:
            message = (
                f"{lines:,} chats are learned as {self.rows:,} examples, each with the prompt "
                "that is served for its last reply: the model's chat template writes earlier "
                "turns differently once there are later ones."
            )
            yield "replies-apart", message


@dataclass(frozen=True, slots=True)
class TrainableModel:
    """A model that is ready to be trained.

    Attributes:
        parameters: What is trained, by name.
        tensors: Returns what a saved model consists of, by name.
        save: Writes those, each in one piece, to an existing folder as a model.
        sharded: The model, if it is sharded.
        saved_dtype: Precision in which it is saved; None for that in which it is trained.
    """

    parameters: dict[str, nn.Parameter]
    tensors: Callable[[], Mapping[str, torch.Tensor]]
    save: Callable[[Path, Mapping[str, torch.Tensor]], None]
    sharded: ShardedModel | None = None
    saved_dtype: torch.dtype | None = None

    def snapshot(self) -> Callable[[Path], None]:
        """Return what writes the model as it is now to an existing folder.

        Every process of a training calls it, and the leading one what it returns.
        """
        if self.sharded is not None:
            self.sharded.reshard()
        tensors = whole_tensors(self.tensors(), self.saved_dtype)
        return lambda folder: self.save(folder, tensors)


class Preparation:
    """Loads the model, reads the data and chooses the recipe.

    Args:
        spec: The job.
        folder: Its work folder.
        should_continue: Called between batches of longer computations.

    Raises:
        TrainingError: The model, the data or the requested recipe cannot be used.
    """

    def __init__(
        self, spec: TrainingSpec, folder: WorkFolder, should_continue: Callable[[], bool]
    ) -> None:
        self._spec = spec
        self._folder = folder
        self._should_continue = should_continue
        tokenizer = _load_tokenizer(spec)
        config = _load_config(spec)
        self.data: Data = _read_data(spec, config, tokenizer)
        device = pick_device()
        budget = memory_budget(spec, device)
        if budget is not None and device.type == "cpu":
            budget /= distributed.count()  # of one machine's memory
        choice: MemoryChoice | None = None
        if budget is not None:
            choice = MemoryChoice(
                config,
                self.data.longest,
                budget,
                spec.optimizer,
                devices=distributed.count(),
                experts=trains_experts(spec.train_experts, spec.initial_adapter_path),
            )
        wanted, reason = _choose_before_loading(spec, choice)
        self.model: SplitModel = _load_model(spec, tokenizer, four_bits=wanted == "qlora")
        self.hyperparameters: ResolvedHyperparameters = resolve_hyperparameters(
            spec, self.data.rows
        )
        chosen = choose_recipe(
            spec.model_copy(update={"recipe": wanted}),
            self.model,
            Work(
                self.data.tokens,
                math.ceil(self.data.rows / self.hyperparameters.batch_size),
                self.hyperparameters.n_epochs,
                torch.get_num_threads(),
            ),
            torch.from_numpy(self.data.train[0].tokens),
        )
        self.recipe: ChosenRecipe = chosen if reason is None else replace(chosen, reason=reason)
        fit = None if choice is None else choice.require(chosen.recipe, self.model.path)
        self.memory: MemoryPlan | None = None if fit is None else fit.plan
        first = self.recipe.first_layer
        tokens = self.memory.tokens if self.memory else TOKENS_AT_ONCE[device.type]
        self.limit: MemoryLimit = MemoryLimit(self.model.layers[first:], tokens)
        self.fused: bool = (
            self.recipe.adapter is not None
            and not isinstance(self.model, PlainModel)
            and apply_liger(self.model, proof_tokens(tokenizer))
        )
        self.packed: bool = not isinstance(self.model, PlainModel) and can_pack(
            self.model, proof_tokens(tokenizer)
        )
        self.optimizer: OptimizerName = spec.optimizer or (
            "adamw" if fit is None else fit.optimizer
        )

    def notes(self) -> Iterator[tuple[str, str]]:
        """Yield what to say of how the model is computed: a key and a sentence."""
        if self.fused:
            yield "liger", "Norms and activations are computed by Liger's fused kernels."
        if self.packed:
            yield "packing", "Examples are packed without padding (PyTorch's varlen_attn)."
        if self.memory is not None:
            yield "memory", self.memory.reason

    def check_disk_space(self) -> None:
        """Refuse to train all weights where the disk cannot take checkpoints and models.

        Raises:
            NotEnoughSpaceError: The disk has too little free space.
        """
        if self.recipe.recipe != "full":
            return
        weights = sum(parameter.numel() for parameter in self.model.whole.parameters())
        checkpoint = weights * 4 * 3  # weights and their two moments, in 32 bits
        model = weights * best_dtype(self.model.device).itemsize
        models = min(self.hyperparameters.n_epochs, SNAPSHOT_EPOCHS) + 1
        # Two checkpoints are kept while a third is written.
        needed = 3 * checkpoint + models * model
        require_space(self._spec.work_path, needed, "train all weights, as the recipe `full` does")

    def example_sets(self) -> tuple[ExampleSet, ExampleSet | None] | None:
        """Return training and validation set, with the frozen layers' outputs for `fast`.

        Returns:
            None if a stop was requested while those were computed.
        """
        examples = {"train": self.data.train, "validation": self.data.validation}
        caches: dict[str, FrozenLayerCache] = {}
        if self.recipe.recipe == "fast":
            for name, rows in examples.items():
                write = partial(self._write_cache, name, rows)
                if not distributed.run_on_leader(write):
                    return None
                if rows:
                    caches[name] = FrozenLayerCache(
                        self._folder.frozen_layer_cache(name),
                        [len(example) for example in rows],
                        self.model.hidden_size,
                        self.model.dtype,
                    )
        train = ExampleSet(self.data.train, caches.get("train"))
        if not self.data.validation:
            return train, None
        return train, ExampleSet(self.data.validation, caches.get("validation"))

    def trainable_model(self) -> TrainableModel:
        """Make the model trainable as the recipe says."""
        spec = self._spec
        if self.memory is not None:
            self.limit.recompute(self.memory.recomputed_layers)
        self.limit.restore(*self._folder.read_limit())
        is_sharded = distributed.count() > 1 and self.recipe.recipe != "fast"
        if self.recipe.adapter is None:
            return self._trainable_weights(is_sharded=is_sharded)
        is_fast = self.model.path == "fast"
        add = add_adapter if is_fast else add_peft_adapter
        adapter = add(self.model, self.recipe.adapter, base_name=spec.base_model, seed=spec.seed)
        if spec.initial_adapter_path is not None:
            adapter.load(spec.initial_adapter_path)
        on_processor = pick_device().type == "cpu"
        if is_fast and not on_processor:  # a GPU waits for whoever starts its operations
            group_layers(self.model.decoder)
        if is_sharded:
            sharded = ShardedModel(self.model, adapter.parameters(), pick_device())
            parameters = sharded.parameters
            return TrainableModel(parameters, lambda: parameters, adapter.save, sharded)
        if is_fast and on_processor:
            self._speed_up(adapter)
        return TrainableModel(adapter.parameters(), adapter.parameters, adapter.save)

    def _speed_up(self, adapter: Adapter) -> None:
        """Choose what computes the same sooner on a processor, for steps of this size."""
        self.model.speed_up_steps(torch.from_numpy(self.data.train[0].tokens))
        tokens = self.data.tokens / self.data.rows * self.hyperparameters.batch_size
        if tokens <= _SHORT_STEP:
            group_layers(self.model.decoder)
            adapter.prepack()
            self.model.prepack_output()

    def _trainable_weights(self, *, is_sharded: bool) -> TrainableModel:
        """Make all weights trainable, in 32 bits."""
        model = self.model.whole.requires_grad_(requires_grad=True)
        sharded = None
        if is_sharded:
            weights = dict(model.named_parameters())
            sharded = ShardedModel(self.model, weights, pick_device(), torch.float32)
        else:
            model = model.float()
        return TrainableModel(
            dict(model.named_parameters()) if sharded is None else sharded.parameters,
            partial(model.state_dict, keep_vars=True),
            partial(_save_weights, model, self.data.tokenizer),
            sharded,
            best_dtype(self.model.device),
        )

    def objective(
        self,
        train: ExampleSet,
        validation: ExampleSet | None,
        report: Callable[[str, str], None],
    ) -> Objective | None:
        """Return what to minimise; call it within `only_layers`.

        Args:
            train: Examples to learn from.
            validation: Examples to validate on, or None.
            report: Receives a key and a sentence where memory did not suffice.

        Returns:
            None if a stop was requested while the reference of preferences was computed.
        """
        # Whole weights are kept in 32 bits; PEFT's adapters around four bits are, too.
        is_mixed = self.recipe.recipe in {"full", "qlora"}
        computation = LossComputation(
            self.model,
            self.limit,
            packed=self.packed,
            autocast=is_mixed and best_dtype(self.model.device) == torch.bfloat16,
        )
        if self._spec.method == "supervised":
            return Supervised(computation, train, validation, self.data.classes)

        def reference(source: ExampleSet, path: Path) -> Pairs | None:
            work = partial(with_reference, computation, source, path, self._should_continue)
            return self.limit.attempt(work, lambda: None, report)

        train_pairs = reference(train, self._folder.reference("train"))
        if train_pairs is None:
            return None
        validation_pairs = None
        if validation is not None:
            validation_pairs = reference(validation, self._folder.reference("validation"))
            if validation_pairs is None:
                return None
        return Preference(computation, train_pairs, validation_pairs, self._spec.dpo_beta)

    def _write_cache(self, name: str, examples: list[Example]) -> bool:
        """Return False if a stop was requested before the end."""
        path = self._folder.frozen_layer_cache(name)
        if not path.exists():
            size = frozen_layer_cache_bytes(self.model, examples)
            require_space(self._spec.work_path, size, "cache the outputs of the frozen layers")
        return write_frozen_layer_cache(
            self.model, self.recipe.first_layer, examples, path, self._should_continue
        )


def _choose_before_loading(
    spec: TrainingSpec, choice: MemoryChoice | None
) -> tuple[RecipeChoice, str | None]:
    """Return the recipe to load the model for, and why if the job did not ask for it.

    Raises:
        TrainingError: The requested recipe does not fit, or cannot be used here.
    """
    wanted: RecipeChoice = spec.recipe
    parent = spec.initial_adapter_path
    trained_by = None if parent is None else recipe_of(parent)
    no_four_bits = why_no_four_bits()
    is_alone = distributed.count() == 1
    if wanted == "auto" and trained_by == "qlora" and no_four_bits is None and is_alone:
        return "qlora", "as the model to continue from was trained"
    no_experts = why_no_experts(
        wanted, spec.base_path, parent, wanted=spec.train_experts, processes=distributed.count()
    )
    if no_experts is not None:
        raise TrainingError(no_experts, "invalid_hyperparameters")
    if wanted == "auto" and trains_experts(spec.train_experts, parent):
        wanted = "lora"
    not_in_four_bits = why_not_shared(distributed.count()) or no_four_bits
    if wanted == "qlora" and not_in_four_bits is not None:
        raise TrainingError(not_in_four_bits, "invalid_hyperparameters")
    if wanted == "auto" and parent is None and distributed.count() > 1 and choice is not None:
        wanted = "lora"  # whoever spreads a model over devices has one that is large
    if choice is None or trained_by in {"fast", "full"}:
        return wanted, None
    path = spec.path or "fast"
    if wanted != "auto":
        choice.require(wanted, "general" if wanted == "qlora" else path)
    return choice.recipe(wanted, path)


def _load_tokenizer(spec: TrainingSpec) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415 - slow to import

    return AutoTokenizer.from_pretrained(
        spec.base_path, trust_remote_code=False, local_files_only=True
    )


def _load_config(spec: TrainingSpec) -> Any:
    """Load the configuration of the base model.

    Raises:
        TrainingError: There is none.
    """
    from transformers import AutoConfig  # noqa: PLC0415 - slow to import

    try:
        return AutoConfig.from_pretrained(
            spec.base_path, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        msg = f"The model in {spec.base_path.name} cannot be loaded: {error}"
        raise TrainingError(msg, "invalid_model") from error


def _load_model(spec: TrainingSpec, tokenizer: Any, *, four_bits: bool) -> SplitModel:
    """Load the model for the path that was proven for it, or is proven now.

    Where several processes share the training it stays in the memory maps of its files until it
    is known what each process needs of it.
    """
    device = pick_device()
    place = torch.device("cpu") if distributed.count() > 1 else device
    continued = spec.initial_adapter_path
    has_adapter = continued is None or (continued / "adapter_config.json").is_file()
    folder = spec.base_path if continued is None or has_adapter else continued
    return load_training_model(
        folder,
        best_dtype(device),
        place,
        tokenizer=tokenizer,
        path=spec.path,
        four_bits=four_bits,
        experts=trains_experts(spec.train_experts, continued),
    )


def _read_data(spec: TrainingSpec, config: Any, tokenizer: Any) -> Data:
    template = tokenizer_template(tokenizer, end_token_ids(spec.base_path))
    context = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    limits = [limit for limit in (spec.max_tokens, context) if limit]
    max_tokens = min(limits, default=tokenizer.model_max_length)

    def read(path: Path, prompt_loss_weight: float, code: TrainingErrorCode) -> list[Example]:
        if spec.method == "dpo":
            return read_pairs(path, tokenizer, template, max_tokens=max_tokens, code=code)
        return read_examples(
            path,
            tokenizer,
            template,
            prompt_loss_weight=prompt_loss_weight,
            max_tokens=max_tokens,
            code=code,
        )

    train = read(spec.training_path, spec.prompt_loss_weight or 0.0, "invalid_training_file")
    validation: list[Example] = []
    if spec.validation_path is not None:
        validation = read(spec.validation_path, 0.0, "invalid_validation_file")
    classes = find_classes(spec, train, validation, tokenizer)
    rows = len(train) // 2 if spec.method == "dpo" else len(train)
    return Data(tokenizer, train, validation, classes, rows, sum(map(len, train)))


def _save_weights(
    model: Any, tokenizer: Any, folder: Path, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Write all weights, with configuration and tokenizer."""
    model.save_pretrained(folder, state_dict=dict(tensors), safe_serialization=True)
    tokenizer.save_pretrained(folder)
