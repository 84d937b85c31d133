"""Pre-train a segmentation network on your own unlabeled images, then segment with a fraction of the labels."""

# Public names are imported from their modules when they are first used, so that import maeseg takes no time.

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maeseg.commands.app import app
    from maeseg.commands.check import check
    from maeseg.commands.compare import compare
    from maeseg.commands.demo import demo
    from maeseg.commands.encoders import encoders
    from maeseg.commands.evaluate import evaluate
    from maeseg.commands.export import export
    from maeseg.commands.finetune import finetune
    from maeseg.commands.predict import predict
    from maeseg.commands.pretrain import pretrain
    from maeseg.commands.recipe import recipe
    from maeseg.commands.reconstruct import reconstruct
    from maeseg.commands.report import report
    from maeseg.commands.suggest import suggest
    from maeseg.config import CompareConfig, FinetuneConfig, PretrainConfig
    from maeseg.data.sources.registry import register_source
    from maeseg.errors import UserError
    from maeseg.masking.patches import reconstruction_loss
    from maeseg.masking.visible import random_visible
    from maeseg.models.masked_autoencoder import MaskedAutoencoder
    from maeseg.models.network_spec import NetworkSpec
    from maeseg.models.volume_masked_autoencoder import VolumeMaskedAutoencoder
    from maeseg.prediction.segmenter import Segmenter, load
    from maeseg.sparse import encode_visible
    from maeseg.training.losses import SegmentationLoss

    __version__: str

_MODULES = {
    "app": "commands.app",
    "check": "commands.check",
    "compare": "commands.compare",
    "demo": "commands.demo",
    "encoders": "commands.encoders",
    "evaluate": "commands.evaluate",
    "export": "commands.export",
    "finetune": "commands.finetune",
    "predict": "commands.predict",
    "pretrain": "commands.pretrain",
    "recipe": "commands.recipe",
    "reconstruct": "commands.reconstruct",
    "report": "commands.report",
    "suggest": "commands.suggest",
    "load": "prediction.segmenter",
    "Segmenter": "prediction.segmenter",
    "NetworkSpec": "models.network_spec",
    "PretrainConfig": "config",
    "FinetuneConfig": "config",
    "CompareConfig": "config",
    "MaskedAutoencoder": "models.masked_autoencoder",
    "VolumeMaskedAutoencoder": "models.volume_masked_autoencoder",
    "encode_visible": "sparse",
    "random_visible": "masking.visible",
    "reconstruction_loss": "masking.patches",
    "SegmentationLoss": "training.losses",
    "register_source": "data.sources.registry",
    "UserError": "errors",
}
"""Module below ``maeseg`` of each public name."""

__all__ = [
    "CompareConfig",
    "FinetuneConfig",
    "MaskedAutoencoder",
    "NetworkSpec",
    "PretrainConfig",
    "SegmentationLoss",
    "Segmenter",
    "UserError",
    "VolumeMaskedAutoencoder",
    "__version__",
    "app",
    "check",
    "compare",
    "demo",
    "encode_visible",
    "encoders",
    "evaluate",
    "export",
    "finetune",
    "load",
    "predict",
    "pretrain",
    "random_visible",
    "recipe",
    "reconstruct",
    "reconstruction_loss",
    "register_source",
    "report",
    "suggest",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = importlib.import_module("maeseg.utils.system").version_of("maeseg")
    elif name in _MODULES:
        value = getattr(importlib.import_module(f"maeseg.{_MODULES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
