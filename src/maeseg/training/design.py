"""Encoder and decoder of a pre-training network, from its options and initial weights."""

from collections.abc import Sequence
from typing import Any

from maeseg.config import PretrainConfig
from maeseg.errors import UserError
from maeseg.models.architecture import Design, architecture_of
from maeseg.models.mae import DECODER_DEPTH, DECODER_WIDTH, check_decoder
from maeseg.training.initialization import Start, choose_network
from maeseg.training.volume_setup import check_axes
from maeseg.types import PIXELS
from maeseg.weights.vit_layouts import mae_decoder_in

OF_MAE = ("decoder_width", "decoder_depth")
"""Options of MAE's decoder."""


def choose_design(config: PretrainConfig, starts: Sequence[Start]) -> Design:
    """Determine encoder and decoder of a pre-training network of images; see ``volume_design`` for volumes.

    Raises:
        UserError: Options contradict each other, the encoder or the weights.
    """
    check_axes(config, volumes=False)
    encoder, widths = choose_network(starts, config.encoder, config.decoder_channels)
    if architecture_of(encoder) == "unet":
        refuse(config, ("decoder", *OF_MAE), f"is of a vision transformer, and {encoder} has the decoder of a U-Net")
        return Design(encoder, tuple(widths))
    refuse(config, ("decoder_window",), f"is of a U-Net, and the decoder of {encoder} needs the tokens of all patches")
    if config.target != PIXELS:
        raise UserError(
            f"--target {config.target} is of a U-Net, and {encoder} is a vision transformer: leave it out, or give a "
            "convnet as --encoder"
        )
    theirs = next((start.run.spec.design for start in starts if start.run and start.run.verb == "pretrain"), None)
    of_dpt = theirs is not None and theirs.mae_decoder is None
    if (config.decoder or ("dpt" if of_dpt else "mae")) == "dpt":
        refuse(config, OF_MAE, "is of MAE's decoder, not of --decoder dpt")
        chosen = Design(encoder, tuple(widths))
    else:
        refuse(config, ("decoder_channels",), "is of --decoder dpt, not of MAE's decoder")
        files = (mae_decoder_in(start.tensors) for start in starts if start.tensors is not None)
        chosen = Design(encoder, (), choose_mae_decoder(config, theirs.mae_decoder if theirs else next(files, None)))
    if theirs and theirs != chosen:
        raise UserError(
            f"--weights {config.weights} has {described(theirs)}, not {described(chosen)}: leave out the decoder's "
            "options"
        )
    return chosen


def choose_mae_decoder(config: PretrainConfig, theirs: tuple[int, int] | None) -> tuple[int, int]:
    """Width and depth of MAE's decoder: from the options, the initial weights, or MAE's.

    Raises:
        UserError: The width does not fit.
    """
    width, depth = theirs or (DECODER_WIDTH, DECODER_DEPTH)
    width, depth = config.decoder_width or width, config.decoder_depth or depth
    check_decoder(width, depth)
    return width, depth


def decoder_options(design: Design) -> dict[str, Any]:
    """Resolved options of a transformer's decoder, for the run's config.yaml; none for another network."""
    if design.architecture != "dpt":
        return {}
    if not design.mae_decoder:
        return {"decoder": "dpt"}
    width, depth = design.mae_decoder
    return {"decoder": "mae", "decoder_width": width, "decoder_depth": depth}


def described(design: Design) -> str:
    """A transformer's decoder in words."""
    if not design.mae_decoder:
        return f"the DPT's decoder of widths {list(design.decoder_channels)}"
    return "MAE's decoder of width {} and depth {}".format(*design.mae_decoder)


def refuse(config: PretrainConfig, options: Sequence[str], reason: str) -> None:
    """Raise a UserError if one of the options is given."""
    for option in options:
        if (value := getattr(config, option)) is not None:
            raise UserError(f"--{option} {value} {reason}: leave it out")
