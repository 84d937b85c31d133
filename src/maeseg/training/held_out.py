"""Check across runs that no held-out image was trained on: images are compared by their content."""

import logging

from maeseg.errors import UserError
from maeseg.runs.image_list import TRAINED, Listed, read_image_list
from maeseg.runs.layout import run_of
from maeseg.training.initialization import Start
from maeseg.training.run_images import RunImages

log = logging.getLogger(__name__)


def check_held_out(start: Start, images: RunImages) -> list[Listed]:
    """Refuse initial weights that were trained on validation or test images of this run.

    A copy counts as the image, under any name and in any folder. A warning is logged if the weights are a run or an
    export of maeseg whose training images are unknown.

    Args:
        start: The initial weights.
        images: The images of the run.

    Returns:
        Images that the weights were trained on, for the list of this run.

    Raises:
        UserError: The weights were trained on held-out images.
    """
    inherited = trained_on(start)
    known = {row.content: row.file for row in inherited if row.content}
    held = [images.contents[index] for index in (*images.split.val, *images.split.test)]
    if seen := [content for content in held if content in known]:
        raise UserError(
            f"{start.origin} was trained on {len(seen)} of the {len(held)} images that are to validate or test, "
            f"{known[seen[0]]} among them: hold out the same ones in both, by the same share (there --val 0.3 for "
            "--val 0.2 --test 0.1), or train those weights again with --val PATH of the images held out here"
        )
    if not images.shared:  # else the comparison has warned
        for row in inherited:
            if not row.content:
                log.warning(
                    "weights: it is not known which images %s was trained on; see that none of them validates or "
                    "tests", row.file,
                )  # fmt: skip
    return inherited


def trained_on(start: Start) -> list[Listed]:
    """List the images that weights were trained on, in their run or before it.

    Returns:
        Name and content of each image; for unknown images one entry without content, named after the weights.
    """
    if start.run is None:
        return [Listed("inherited", start.origin, "")] if start.spec else []
    run = run_of(start.run.run)
    stored = read_image_list(run)
    if stored is None:
        return [Listed("inherited", str(run), "")]
    return [Listed("inherited", row.file, row.content) for row in stored.of(*TRAINED)]
