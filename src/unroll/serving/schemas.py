"""What `/v1` takes and gives. Unknown fields, wrong types and numbers that are none are refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from unroll.generation import SamplingSettings
from unroll.serving.source import ServedVersion


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Number = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_whole)]
"""In JSON, 12 and 12.0 are the same number."""
DEFAULTS = SamplingSettings()
LARGEST_SEED = 2**53 - 1
"""The largest whole number that every JSON reader keeps."""
MAX_TEXTS = 256
MAX_TEXT_LENGTH = 20_000
MAX_PROMPT_LENGTH = 2_000
MAX_LENGTH = 10_000


class _Request(BaseModel):
    # strict: "12" is no number, 1 is no text
    model_config = ConfigDict(extra="forbid", strict=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class ModelName(_Answer):
    """Which model answered."""

    name: str
    version: str
    digest: str

    @classmethod
    def of(cls, version: ServedVersion) -> ModelName:
        """As the answer has it."""
        return cls(name=version.name, version=version.number, digest=version.digest)


class SentimentRequest(_Request):
    """Texts to classify."""

    texts: list[Annotated[str, Field(max_length=MAX_TEXT_LENGTH)]] = Field(
        max_length=MAX_TEXTS, description="May be empty texts; an empty list gets an empty answer."
    )
    explain: bool = Field(False, description="Also measure what each token does to the answer, of one text at a time.")


class Token(_Answer):
    """One token of the text and its effect."""

    text: str
    start: int = Field(description="First code point in the text.")
    stop: int = Field(description="The code point after its last.")
    known: bool = Field(description="Whether the model's vocabulary has it.")
    effect: float = Field(
        description="Log-odds (natural) of the label less those with this token unknown; above 0 speaks for the label."
    )
    probability_without: float = Field(description="Of the label, with this token unknown.")


class Prediction(_Answer):
    """The answer to one text."""

    label: str = Field(description="The likeliest class.")
    probability: float = Field(description="Of the label.")
    probabilities: dict[str, float]
    tokens: list[Token] | None = Field(None, description="With `explain`: in the order of the text.")
    not_explained: str | None = Field(None, description="Why there are no tokens though they were asked for.")


class SentimentAnswer(_Answer):
    """Predictions in the order of the texts."""

    model: ModelName
    predictions: list[Prediction]


class GenerateRequest(_Request):
    """A prompt and how to go on from it; the sampling settings are those of `unroll generate`."""

    prompt: str = Field("", max_length=MAX_PROMPT_LENGTH)
    length: Whole = Field(DEFAULTS.length, ge=0, le=MAX_LENGTH, description="Most characters to make.")
    temperature: Number = Field(
        DEFAULTS.temperature,
        ge=0,
        le=100,
        description="Below 1 more predictable, above it more random, 0 the likeliest.",
    )
    top_k: Whole = Field(DEFAULTS.top_k, ge=0, le=0x110000, description="Keep the k likeliest; 0 keeps all.")
    top_p: Number = Field(DEFAULTS.top_p, gt=0, le=1, description="Keep the likeliest up to this probability.")
    min_p: Number = Field(DEFAULTS.min_p, ge=0, le=1, description="Drop those below this share of the likeliest.")
    seed: Whole = Field(DEFAULTS.seed, ge=0, le=LARGEST_SEED, description="Same seed, same text.")
    stop: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        default_factory=list, max_length=8, description="End after the first of these strings, which stays."
    )
    stream: bool = Field(False, description="Send server-sent events while the text is made.")
    probabilities: bool = Field(False, description="Say of each character how likely the model held it.")

    def sampling(self) -> SamplingSettings:
        """As the generator takes them."""
        names = ("length", "temperature", "top_k", "top_p", "min_p", "seed")
        return SamplingSettings(**{name: getattr(self, name) for name in names}, stop=tuple(self.stop))


class Candidate(_Answer):
    """A character that might have come."""

    character: str
    probability: float


class Character(_Answer):
    """A character that came."""

    character: str
    probability: float = Field(description="By the model itself, before temperature and cuts.")
    likeliest: list[Candidate]


class GenerateAnswer(_Answer):
    """A text."""

    model: ModelName
    text: str = Field(description="What follows the prompt.")
    reason: Literal["length", "stop"] = Field(description="Why it ends.")
    unknown: list[str] = Field(description="Characters of the prompt that the model never saw.")
    seconds: float = Field(description="From the first character to the last.")
    characters: list[Character] | None = Field(None, description="With `probabilities`.")


class ProjectState(_Answer):
    """One project's model, and what the last look at the registry brought."""

    name: str = Field(description="Of the registered model.")
    model: ModelName | None = Field(description="What answers now.")
    registry_up: bool
    checked: float | None = Field(description="When the registry was last asked, in seconds since 1970.")
    trouble: str | None = Field(description="What keeps the registry's champion from being served.")


class Readiness(_Answer):
    """Whether requests can be answered."""

    status: Literal["ready", "not ready"]
    detail: str
    projects: dict[str, ProjectState]
