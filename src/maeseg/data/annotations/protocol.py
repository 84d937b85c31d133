"""Interface of all annotation formats."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

IGNORED = 65535
"""Label value of ignored pixels: COCO's crowds, ``__ignore__``."""


class Annotations(Protocol):
    """Labels of many images; can be pickled, for the processes of a data loader.

    Attributes:
        names: Class names without background; empty only for a format of values without names (MATLAB).
        files: Names of the images, each once, in the file's order: relative, with forward slashes. Without suffix for
            YOLO and MATLAB, in which a label has its image's name. For matching only, never for opening: a name may
            lead outside the folder.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Class names without background."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the images."""

    def size(self, file: str) -> tuple[int, int] | None:
        """Return (height, width) of an image in the annotations, in pixels; None if unknown.

        Args:
            file: One of ``files``.
        """

    def label(self, file: str, height: int, width: int) -> NDArray[np.uint16]:
        """Draw the label of an image.

        Args:
            file: One of ``files``.
            height: Height of the image in pixels.
            width: Width of the image in pixels.

        Returns:
            Label (H, W), uint16: 0 background, k for ``names[k - 1]``, 65535 ignored; without names, the stored values.

        Raises:
            DataError: The annotations are damaged, or for an image of another size.
        """
