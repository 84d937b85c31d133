"""Every command by name, in the order of the command line's list."""

from collections.abc import Callable, Mapping
from typing import Any

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

COMMANDS: Mapping[str, Callable[..., Any]] = {
    command.__name__: command
    for command in (
        check,
        pretrain,
        finetune,
        evaluate,
        predict,
        suggest,
        reconstruct,
        export,
        app,
        compare,
        report,
        recipe,
        demo,
        encoders,
    )
}
