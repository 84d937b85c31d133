"""One object that runs a segmentation network: PyTorch or ONNX Runtime behind it.

A network of volumes takes volumes, ``(D, H, W)``, in the place of images.

Axes: B batch, C channels, K maps (of foreground, or of each class), H W pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from maeseg.data.image_files import MAX_PIXELS_ALONE, DataError
from maeseg.data.image_reading import LargeArray, LargePicture
from maeseg.data.volumes.volume import Volume
from maeseg.errors import UserError
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.volume_networks import AXES
from maeseg.prediction.areas import write_predictions_csv
from maeseg.prediction.backends import Backend, TorchBackend
from maeseg.prediction.exported import open_exported
from maeseg.prediction.inputs import find_images
from maeseg.prediction.memory_images import AnyImage, open_image
from maeseg.prediction.onnx_backend import open_onnx
from maeseg.prediction.output_files import open_output
from maeseg.prediction.predictor import Part, Predictor
from maeseg.prediction.sliding_window import OVERLAP, check_tile, refuse_untiled
from maeseg.prediction.volumes.folder import predict_volumes, refuse_tiles
from maeseg.prediction.volumes.predictor import AnyVolume, VolumePredictor, open_volume
from maeseg.prediction.writer import PredictionWriter
from maeseg.runs.checkpoint import Checkpoint, read_checkpoint, restore_unet
from maeseg.runs.image_list import write_skipped
from maeseg.types import OnBadImage, PredictPrecision
from maeseg.utils.atomic_io import write_png
from maeseg.weights.files import WEIGHTS_IN_FOLDER


@dataclass(frozen=True)
class Segmenter:
    """A trained segmentation network.

    Images may have any size. A network that was trained on resized images takes an image resized to its own size, and
    one much larger than its training images in tiles; a network that was trained on crops takes tiles of the crop's
    size at native resolution. A network of volumes takes each at its spacing, in overlapping windows.

    Attributes:
        backend: The network's arithmetic: PyTorch or ONNX Runtime.
        origin: File or folder that the network is from, for messages.
    """

    backend: Backend
    origin: str = "the network"

    @property
    def spec(self) -> NetworkSpec:
        """Description of the network: encoder, size, normalization, classes."""
        return self.backend.spec

    @property
    def network(self) -> nn.Module:
        """The network itself: normalized images (B, C, H, W) to logits (B, K, H, W).

        Raises:
            UserError: ONNX Runtime runs the network.
        """
        if isinstance(self.backend, TorchBackend):
            return self.backend.network
        raise UserError(
            f"{self.origin} is run by ONNX Runtime, and has no PyTorch network: give the finetune run that it was "
            "exported from"
        )

    def preprocess(self, pixels_CHW: Tensor) -> Tensor:
        """Resize and normalize an image.

        Args:
            pixels_CHW: uint8, or float32 of values 0..1, of any size.

        Returns:
            (C, H, W) of ``spec.size``, float32, one entry of a batch for ``logits``.
        """
        return self.backend.preprocess(pixels_CHW)

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """Run the network on preprocessed images: logits (B, K, H, W), float32 on the CPU."""
        return self.backend.logits(images_BCHW)

    def probabilities(self, image: AnyImage | AnyVolume, flips: bool = False) -> Tensor:
        """Segment one image or volume.

        Args:
            image: A path, a PIL image, an array (H, W) or (H, W, C), or a tensor (C, H, W). For a network of volumes a
                path, a ``Volume``, or an array or tensor (D, H, W) or (C, D, H, W) at the network's spacing.
            flips: Average with the mirror image's prediction: twice the work.

        Returns:
            Probability of foreground, (1, H, W), or of each class, (K, H, W), at the image's size; float32, 0..1. Of a
            volume (K, D, H, W), on canonical axes.

        Raises:
            DataError: The image cannot be read, or its channels or values do not suit the network.
            UserError: The prediction is not finite.
        """
        name = str(image) if isinstance(image, str | Path) else "image"
        if self._of_volumes(image):
            return VolumePredictor(self.backend, flips).probabilities(open_volume(image, self.spec), name)
        return Predictor(self.backend, flips=flips).probabilities(self._open(image), name)

    def probability_parts(self, image: AnyImage | AnyVolume, name: str) -> Iterator[Part]:
        """Segment one image or volume, of which the probabilities of all pixels may be too many for the memory.

        Args:
            image: As ``probabilities`` takes it.
            name: Its name in messages.

        Yields:
            First row, first column and probabilities (K, H, W) of parts that make up what ``probabilities`` returns;
            of a volume the first plane, 0 and probabilities (K, D, H, W).

        Raises:
            DataError: See ``probabilities``.
            UserError: A prediction is not finite.
        """
        if self._of_volumes(image):
            return VolumePredictor(self.backend).parts(open_volume(image, self.spec), name)
        return Predictor(self.backend).parts(self._open(image), name)

    def predict(self, image: AnyImage | AnyVolume, flips: bool = False) -> NDArray[np.uint8]:
        """Segment one image or volume into classes; a large one takes little memory beside itself.

        Args:
            image: As ``probabilities`` takes it.
            flips: Average with the mirror image's prediction: twice the work.

        Returns:
            Index of each pixel's class in ``spec.classes``, (H, W) at the image's size; 0 is the background. Of a
            volume (D, H, W), on canonical axes.

        Raises:
            DataError: The image cannot be read, or its channels or values do not suit the network.
            UserError: The prediction is not finite.
        """
        name = str(image) if isinstance(image, str | Path) else "image"
        if self._of_volumes(image):
            return VolumePredictor(self.backend, flips).class_map(open_volume(image, self.spec), name)
        return Predictor(self.backend, flips=flips).class_map(self._open(image), name)

    def _open(self, image: AnyImage | AnyVolume) -> LargePicture | LargeArray:
        if isinstance(image, Volume):
            raise DataError(f"a volume was given to {self.origin}, which was trained on images: give an image")
        return open_image(image, self.spec)

    def refuse_volumes(self, command: str) -> None:
        """Raise a UserError if this is a network of volumes, for a command on images."""
        if self.spec.axes == AXES:
            raise UserError(f"{self.origin} was trained on volumes, and {command} is for images: give a run of images")

    def _of_volumes(self, image: AnyImage | AnyVolume) -> TypeGuard[AnyVolume]:
        """True for a network of volumes."""
        return self.spec.axes == AXES

    def predict_folder(
        self, images: str | Path, out: str | Path, *, tile: int | Literal["auto"] = "auto", overlap: float = OVERLAP,
        flips: bool = False, probabilities: bool = False, overlays: bool = True, on_bad_image: OnBadImage = "fail",
        overwrite: bool = False,
    ) -> int:  # fmt: skip
        """Segment an image or volume, or a folder of such, as ``maeseg predict`` does; its options are described there.

        Returns:
            Number of images that were segmented.

        Raises:
            UserError: An option, an image or the output folder cannot be used.
        """
        check_tile(tile, overlap)
        if self.spec.axes == AXES:
            refuse_tiles(tile, overlap, OVERLAP)
            return predict_volumes(
                self.backend, self.origin, Path(images), Path(out), flips=flips, probabilities=probabilities,
                overlays=overlays, on_bad_image=on_bad_image, overwrite=overwrite,
            )  # fmt: skip
        refuse_untiled(tile, self.origin, self.spec.crop)
        largest = self.spec.normalization.largest
        found = find_images(Path(images), self.spec.channels, MAX_PIXELS_ALONE, on_bad_image, largest=largest)
        predictor, classes = Predictor(self.backend, tile, overlap, flips), self.spec.classes
        inputs = [("--run", Path(self.origin)), *(("--images", found.folder / name) for name in found.sizes)]
        with open_output(Path(out), overwrite, inputs) as target:
            areas = predictor.segment(found, PredictionWriter(target, overlays, probabilities, classes))
            write_predictions_csv(target, areas, classes)
            if len(classes.legend) > 1:
                from maeseg.prediction.contact_sheet import legend_picture  # matplotlib, which the rest does without

                write_png(target / "legend.png", legend_picture(classes))
            if found.bad:
                write_skipped(target, {str(file): reason for file, reason in found.bad.items()})
        return len(found.sizes)


def load(
    path: str | Path, *, checkpoint: Literal["best", "last"] = "best", precision: PredictPrecision = "32-true"
) -> Segmenter:
    """Load a trained segmentation network. Nothing in a file is executed.

    Args:
        path: A finetune run, a checkpoint in it, a folder or a ``.safetensors`` file of ``maeseg export`` (formats smp
            and safetensors), or an ``.onnx`` file.
        checkpoint: Checkpoint of a run: the best by validation IoU, or the last.
        precision: Arithmetic of PyTorch.

    Raises:
        UserError: The path is missing, damaged or of another kind, or holds a network that does not segment.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        if precision != "32-true":
            raise UserError(f"--precision {precision} is PyTorch's: leave it out, or give the run itself, not {path}")
        return Segmenter(open_onnx(path, str(path)), str(path))
    if path.suffix == ".safetensors" or (path / WEIGHTS_IN_FOLDER).is_file():
        return Segmenter(TorchBackend(*open_exported(path), precision), str(path))
    return segmenter_of(read_checkpoint(path, checkpoint), precision, str(path))


def segmenter_of(saved: Checkpoint, precision: PredictPrecision = "32-true", origin: str = "") -> Segmenter:
    """Segmenter of a finetune run's checkpoint.

    Raises:
        UserError: The checkpoint is of a pretrain run, or its weights do not fit.
    """
    return Segmenter(TorchBackend(restore_unet(saved), saved.spec, precision), origin or str(saved.run))
