"""Pre-train a U-Net on your own unlabeled images, then segment with a fraction of the labels."""

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
from maeseg.errors import UserError

__all__ = [
    "UserError",
    "app",
    "check",
    "compare",
    "demo",
    "encoders",
    "evaluate",
    "export",
    "finetune",
    "predict",
    "pretrain",
    "recipe",
    "reconstruct",
    "report",
    "suggest",
]
