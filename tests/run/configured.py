"""Configurations to test with: presets of the package, and methods and models that stand for what is above `run`."""

from pydantic import BaseModel, ConfigDict, Field

from fedlps.run.config import Config
from fedlps.run.resolve import Overrides, resolve


class Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    scaler: bool = Field(default=True, description="an on-off parameter")
    period: int = Field(default=3, ge=1, description="a number")


METHODS: dict[str, type[BaseModel]] = {"fedlps": Parameters, "fedavg": Parameters}
MODELS = ("digits_cnn", "mnist_cnn", "mlp", "vgg11", "vgg13", "vgg16")


def configured(*overrides: str, preset: str = "digits", method: str = "fedlps") -> Config:
    return resolve(preset, overrides, method, METHODS, MODELS)


def configured_with(overrides: Overrides) -> Config:
    return resolve("digits", overrides, "fedlps", METHODS, MODELS)
