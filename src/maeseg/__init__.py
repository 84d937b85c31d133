"""Pre-train a U-Net on your own unlabelled images, then segment with a fraction of the labels."""

from maeseg.errors import UserError
from maeseg.verbs.app import app
from maeseg.verbs.check import check
from maeseg.verbs.compare import compare
from maeseg.verbs.demo import demo
from maeseg.verbs.encoders import encoders
from maeseg.verbs.evaluate import evaluate
from maeseg.verbs.export import export
from maeseg.verbs.finetune import finetune
from maeseg.verbs.predict import predict
from maeseg.verbs.pretrain import pretrain
from maeseg.verbs.recipe import recipe
from maeseg.verbs.reconstruct import reconstruct
from maeseg.verbs.report import report
from maeseg.verbs.suggest import suggest

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
