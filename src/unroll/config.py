"""Every setting of both projects: type, bounds, unit; how a YAML preset and overrides become one frozen value.

A preset (``configs/<project>/<name>.yaml``) is one reproducible run. Models forbid unknown names, so a typo is an
error that names the nearest setting; all problems of a config are reported at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

ProjectName = Literal["sentiment", "language_model"]
Cell = Literal["rnn_tanh", "rnn_relu", "lstm", "gru"]
Recurrence = Literal["hidden_to_hidden", "output_to_hidden", "output_to_output"]
Pooling = Literal["last", "mean", "max"]
Fraction = Annotated[float, Field(gt=0.0, lt=0.5)]
Probability = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """A frozen group of settings; attribute docstrings become the descriptions in Prefect's form."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )


class SentimentDataConfig(Section):
    """Where reviews come from and how they are split."""

    source: str = "sample"
    """`sample` (made here), `imdb`, or a path to CSV, Parquet, JSON lines or a folder that `datasets` loads."""
    test_source: str | None = None
    """A path to the test split; without it `test_fraction` of `source` is held out (IMDb brings its own)."""
    text_column: str = "text"
    """Column that holds the text."""
    label_column: str = "label"
    """Column that holds the class, as integers or names."""
    validation_fraction: Fraction = 0.1
    """Share of the training rows held out for choosing, seeded and stratified."""
    test_fraction: Fraction = 0.1
    """Share of the rows held out for testing where the source brings no test split."""
    sample_size: int = Field(6_000, ge=200, le=5_000_000)
    """Reviews that `source: sample` makes."""


class TextDataConfig(Section):
    """Where the running text comes from and how it is cut."""

    source: str = "sample"
    """`sample` (made here), `gutenberg` (see `ebook`), or a path to a plain text file."""
    test_source: str | None = None
    """A path to the test text; without it the last `test_fraction` of `source` is held out."""
    ebook: int = Field(1268, ge=1)
    """Project Gutenberg number; 1268 is The Mysterious Island."""
    validation_fraction: Fraction = 0.05
    """Share of the characters, just before the test part, held out for choosing."""
    max_validation_characters: int | None = Field(1_000_000, ge=1_000)
    """Most characters held out for choosing, however long the text; null sets no bound."""
    test_fraction: Fraction = 0.1
    """Share of the characters, at the end, held out for testing."""
    max_test_characters: int | None = Field(1_000_000, ge=1_000)
    """Most characters scored as the test part, however long the text, or the start of a longer `test_source`; null sets
    no bound. Scoring takes memory and time in proportion."""
    sample_size: int = Field(500_000, ge=20_000, le=5_000_000_000)
    """Characters that `source: sample` makes."""


class WordEncodingConfig(Section):
    """How a review becomes token ids."""

    tokenizer: Literal["book", "word", "subword"] = "word"
    """`book`: the chapter's; `word`: words and punctuation; `subword`: byte-pair pieces of words."""
    vocab_size: int | None = Field(30_000, ge=3)
    """Most ids in the vocabulary, `<pad>` and `<unk>` counted; null keeps every token."""
    min_count: int = Field(1, ge=1)
    """Occurrences in the training split below which a token is left out."""
    max_length: int | None = Field(400, ge=2)
    """Most tokens kept of a text: the first and the last half of this number; null keeps all."""


class CharEncodingConfig(Section):
    """How running text becomes character ids."""

    tokenizer: Literal["char"] = "char"
    """One id per character."""
    vocab_size: int | None = Field(None, ge=3)
    """Most ids in the vocabulary, `<pad>` and `<unk>` counted; null keeps every character."""
    min_count: int = Field(1, ge=1)
    """Occurrences in the training split below which a character is left out."""


class RecurrentConfig(Section):
    """What both models share: an embedding and a stack of recurrent layers."""

    embedding_dim: int = Field(100, ge=1, le=8192)
    """Width of the embedding."""
    cell: Cell = "lstm"
    """Recurrent cell."""
    recurrence: Recurrence = "hidden_to_hidden"
    """Which units of the step before a simple RNN reads; the other cells know hidden_to_hidden only."""
    hidden_size: int = Field(128, ge=1, le=8192)
    """Units of each layer and direction."""
    num_layers: int = Field(1, ge=1, le=16)
    """Recurrent layers, each reading the one below."""
    dropout: Probability = 0.0
    """Dropout between layers and before the output layer."""
    embedding_dropout: Probability = 0.0
    """Dropout on the embedded tokens."""

    @model_validator(mode="after")
    def _cell_has_recurrence(self) -> RecurrentConfig:
        if self.recurrence != "hidden_to_hidden" and self.cell not in ("rnn_tanh", "rnn_relu"):
            raise ValueError(f"recurrence {self.recurrence} needs cell rnn_tanh or rnn_relu, got {self.cell}")
        return self


class SentimentModelConfig(RecurrentConfig):
    """The many-to-one model."""

    bidirectional: bool = True
    """A second stack reads each text from its own last token to its first."""
    pooling: tuple[Pooling, ...] = Field(("mean", "max"), min_length=1)
    """How a sequence of states becomes one vector; several are concatenated."""
    head_size: int | None = Field(None, ge=1)
    """Units of a ReLU layer between pooling and the logits; null leaves it out."""
    output: Literal["softmax", "sigmoid"] = "softmax"
    """`softmax`: a logit for each class; `sigmoid`: one logit for the second of two classes, as in the chapter."""
    word_dropout: Probability = 0.0
    """Share of tokens replaced by `<unk>` while training."""


class CharModelConfig(RecurrentConfig):
    """The many-to-many model."""

    bidirectional: Literal[False] = False
    """A language model reads forward only."""
    tie_weights: bool = False
    """The output layer shares the embedding's matrix (needs embedding_dim = hidden_size)."""

    @model_validator(mode="after")
    def _tied_sizes_agree(self) -> CharModelConfig:
        if self.tie_weights and self.embedding_dim != self.hidden_size:
            raise ValueError(
                f"tie_weights needs embedding_dim = hidden_size, got {self.embedding_dim} and {self.hidden_size}"
            )
        return self


class TrainingConfig(Section):
    """The training loop. A step is one optimizer update; an epoch is one pass over the training split."""

    epochs: int = Field(3, ge=1, le=100_000)
    """Passes over the training split."""
    max_steps: int | None = Field(None, ge=1)
    """Optimizer updates after which training ends, if before the last epoch."""
    max_minutes: float | None = Field(None, gt=0)
    """Minutes of training, restarts counted in. A schedule that would not end in time is annealed by the clock."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    """SGD uses Nesterov momentum `betas[0]`."""
    learning_rate: float = Field(3e-3, gt=0, le=10)
    """Peak learning rate."""
    weight_decay: float = Field(0.0, ge=0, le=10)
    """Decay of weight matrices (biases are left alone): decoupled for `adamw`, in the gradient for the others."""
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    """Decay rates of Adam's moments."""
    schedule: Literal["constant", "cosine", "one_cycle"] = "one_cycle"
    """Course of the learning rate over the run."""
    warmup_fraction: float = Field(0.2, ge=0, lt=1)
    """Share of the run in which `cosine` and `one_cycle` rise to the peak."""
    batch_size: int = Field(64, ge=1, le=65_536)
    """Texts in a batch, or parallel streams of a language model."""
    clip: Literal["norm", "value", "none"] = "norm"
    """Gradient clipping: by the norm over all parameters, by the value of each entry, or none."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """Threshold of `clip: norm`."""
    max_gradient_value: float = Field(0.5, gt=0)
    """Threshold of `clip: value`."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Arithmetic of forward and backward passes; weights stay float32. float16 scales the loss and needs a GPU. `auto`
    takes bfloat16 where it was measured to be faster: for an LSTM, on a CPU that computes in it; so its bits depend on
    the processor."""
    device: str = "auto"
    """`auto` takes a GPU where there is one; or any name that torch.device takes."""
    shards: int = Field(1, ge=1, le=64)
    """Threads of one core each that share the rows of a batch on a CPU; 1 leaves cores to PyTorch. The bits of the
    result depend on this number, not on the cores there are. A GPU takes batches whole."""
    processes: int = Field(1, ge=1, le=1)
    """Training processes. One; data-parallel training is not built yet."""
    patience: int | None = Field(None, ge=1)
    """Evaluations without a better validation score after which training stops early."""
    evaluations_per_epoch: int = Field(1, ge=1, le=1000)
    """Looks at the validation split in each epoch, evenly spaced."""
    checkpoint_seconds: float = Field(20.0, gt=0)
    """Seconds between checkpoints; one is also written at each evaluation."""
    max_bad_steps: int = Field(5, ge=1)
    """Steps in a row with a non-finite loss or gradient before rolling back at half the learning rate."""
    max_rollbacks: int = Field(4, ge=0)
    """Roll-backs before training gives up."""
    keep: Literal["best", "last"] = "best"
    """Which weights become the model: the best evaluation's, or, as in the chapter, the last step's."""
    log_every: int = Field(20, ge=1)
    """Steps between two points of the training curves."""


class SentimentTrainingConfig(TrainingConfig):
    """The training loop over batches of texts."""

    bucket_batches: int = Field(50, ge=1)
    """Batches whose texts are sorted by length together: the more, the less padding; 1 draws each batch from all texts
    alike, as in the chapter."""
    batch_tokens: int | None = Field(None, ge=1)
    """Most tokens of a batch, padding counted in: as many texts of like length as fit, batch_size at most, so that
    batches of short texts have more rows. Takes the place of bucket_batches; null leaves batches at batch_size."""


class LanguageModelTrainingConfig(TrainingConfig):
    """The training loop over windows of a text."""

    shards: Literal[1] = 1
    """A language model's layers are large enough for PyTorch's own threads."""
    window: int = Field(100, ge=1, le=100_000)
    """Steps of truncated back-propagation through time."""
    windows: Literal["streams", "random"] = "streams"
    """`streams`: one after the other, the state carried on; `random`: drawn anywhere, each from a state of zeros, as in
    the chapter. An epoch of either has about as many characters as the training split."""
    loss_reduction: Literal["mean", "sum"] = "mean"
    """Over the steps of a window; `sum`, as in the chapter, makes gradients (and so their norms) `window` times larger.
    The mean is over the streams, and logged, in either case."""


class EvaluationConfig(Section):
    """How the test split is scored."""

    bootstrap_samples: int = Field(1_000, ge=100, le=100_000)
    """Resamples behind each interval."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Coverage of the intervals."""
    rival: bool = True
    """Train and score the cheap rival on the same split."""
    sample_prompt: str = Field("The ", min_length=1)
    """Prompt of the passages generated while and after training a language model."""
    sample_length: int = Field(500, ge=1)
    """Characters of such a passage."""
    sample_temperatures: tuple[Annotated[float, Field(ge=0, le=100)], ...] = Field((0.8,), min_length=1)
    """Temperatures of the passages generated after training; the chapter's scale factor is the inverse."""


class GateConfig(Section):
    """What a new version must show to become champion; docs/gate.md has the tests behind it."""

    alpha: float = Field(0.05, gt=0, lt=0.5)
    """Level of each one-sided paired test: how often it may take chance for evidence."""
    minimum_gain: float = Field(0.0, ge=0)
    """Gain over the champion that is to be exceeded: accuracy as a fraction, or bits per character."""
    non_inferiority_margin: float | None = Field(None, gt=0)
    """Where set, a version need not be better than the champion but shown to be no worse, but for this margin (accuracy
    as a fraction, or bits per character)."""
    must_beat_rival: bool = False
    """A version must be better than its cheap rival on the same test items, by the same kind of test."""
    floor: float | None = None
    """Worst accuracy (or most bits per character) of any version that becomes champion, the first or a later one."""

    max_behaviour_failures: float | None = Field(None, ge=0, le=1)
    """Share of its cases that a version may fail in any one behaviour test; null reports them only."""

    @property
    def bar(self) -> float:
        """What the difference from the champion is to exceed: the least gain, or minus the margin."""
        return self.minimum_gain if self.non_inferiority_margin is None else -self.non_inferiority_margin

    @model_validator(mode="after")
    def _asks_for_one_thing(self) -> GateConfig:
        if self.non_inferiority_margin is not None and self.minimum_gain > 0:
            raise ValueError(
                "minimum_gain asks for a better version, non_inferiority_margin for one that is no worse: set one of "
                f"them, got {self.minimum_gain:g} and {self.non_inferiority_margin:g}"
            )
        return self


class RegistryConfig(Section):
    """Where versions are registered."""

    name: str | None = Field(None, min_length=1, pattern=r"^[^/:]+$")
    """Registered model's name; null takes `unroll-<project>`."""
    promote: bool = True
    """Let a version that passes the gate become champion. Where false the gate only judges: it says in the ledger what
    it would do, no alias moves, and a person promotes."""
    require_same_vocabulary: bool = True
    """Hold a better version back where its vocabulary is not the champion's, until a person promotes it."""
    gate: GateConfig = GateConfig()
    """When a new version becomes champion."""


class DriftConfig(Section):
    """How far scored texts may be from those that the model was validated on. Read when scoring, not in training."""

    stability_index: float = Field(0.2, gt=0)
    """Population stability index of the distributions of lengths and of scores above which they count as drifted; 0.1
    is usually called a small change, 0.2 a large one."""
    unknown_rise: float = Field(0.02, gt=0, le=1)
    """Rise of the share of tokens (of characters, in a text) that the vocabulary lacks; 0.02 is two in a hundred."""
    bits_rise: float = Field(0.1, gt=0)
    """Rise of a text's bits per character, as a share of those of the validation text."""
    false_alarms: float = Field(0.001, gt=0, le=0.1)
    """How often chance alone may pass a bound: where the texts are too few to tell, a bound is widened to that."""
    least_count: int = Field(50, ge=10)
    """Texts (passages of 500 characters, of a running text) below which drift is not judged at all."""


class ProjectConfig(Section):
    """What both projects share."""

    seed: int = Field(1, ge=0, lt=2**31)
    """Fixes splits, weights, order, dropout and sampling."""
    evaluation: EvaluationConfig = EvaluationConfig()
    registry: RegistryConfig = RegistryConfig()

    @model_validator(mode="after")
    def _rival_is_there_to_beat(self) -> ProjectConfig:
        if self.registry.gate.must_beat_rival and not self.evaluation.rival:
            raise ValueError(
                "registry.gate.must_beat_rival needs the rival's scores: set evaluation.rival to true, got false"
            )
        return self


class SentimentConfig(ProjectConfig):
    """One run of the sentiment project."""

    project: Literal["sentiment"] = "sentiment"
    data: SentimentDataConfig = SentimentDataConfig()
    encoding: WordEncodingConfig = WordEncodingConfig()
    model: SentimentModelConfig = SentimentModelConfig()
    training: SentimentTrainingConfig = SentimentTrainingConfig()

    @model_validator(mode="after")
    def _gate_counts_in_fractions(self) -> SentimentConfig:
        gate = self.registry.gate
        for name in ("minimum_gain", "non_inferiority_margin", "floor"):
            value = getattr(gate, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"registry.gate.{name} is a share of the test items, from 0 to below 1, got {value:g}")
        return self


class LanguageModelConfig(ProjectConfig):
    """One run of the language-model project."""

    project: Literal["language_model"] = "language_model"
    data: TextDataConfig = TextDataConfig()
    encoding: CharEncodingConfig = CharEncodingConfig()
    model: CharModelConfig = CharModelConfig()
    training: LanguageModelTrainingConfig = LanguageModelTrainingConfig()


AnyConfig = SentimentConfig | LanguageModelConfig
CONFIG_CLASSES: dict[str, type[SentimentConfig] | type[LanguageModelConfig]] = {
    "sentiment": SentimentConfig,
    "language_model": LanguageModelConfig,
}


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"training": {"clip": "norm"}}`` becomes ``{"training.clip": "norm"}``; lists stay values."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def config_digest(config: BaseModel) -> str:
    """SHA-256 (hex) over every setting, defaults included."""
    return hashlib.sha256(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def registered_name(config: AnyConfig) -> str:
    """Name of the registered model that a run of this config adds a version to."""
    return config.registry.name or f"unroll-{config.project.replace('_', '-')}"


assert set(get_args(ProjectName)) == set(CONFIG_CLASSES)
