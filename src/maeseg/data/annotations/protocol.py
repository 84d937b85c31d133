"""The interface that every annotation format is read through."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

IGNORED = 65535
"""Label value of a pixel that counts neither as background nor as a class: COCO's crowds, ``__ignore__``."""


class Annotations(Protocol):
    """Labels of many images; pickles, so that loader processes can read them.

    Attributes:
        names: Classes, background not among them; empty only where the format has values and no names (MATLAB).
        files: Names of the images, each once, in the file's order: relative, with forward slashes. YOLO and MATLAB
            give no suffix, as there a label has its image's name. For matching only, never for opening: a name may
            lead outside of the folder.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Classes, background not among them."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the images."""

    def size(self, file: str) -> tuple[int, int] | None:
        """Return (height, width) of an image as the annotations have it, None if they do not say.

        Args:
            file: One of ``files``.
        """

    def label(self, file: str, height: int, width: int) -> NDArray[np.uint16]:
        """Draw the label of an image.

        Args:
            file: One of ``files``.
            height: Of the image, in pixels.
            width: Of the image, in pixels.

        Returns:
            Label (H, W): 0 background, k for ``names[k - 1]``, 65535 ignored; without names, the values as stored.

        Raises:
            DataError: The annotations are of an image of another size, or broken.
        """
