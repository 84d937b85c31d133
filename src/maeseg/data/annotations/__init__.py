"""Readers of annotation files, as label maps: COCO, LabelMe, CVAT, YOLO and MATLAB."""

from maeseg.data.annotations.find import find_annotations
from maeseg.data.annotations.labelmap import read_labelmap
from maeseg.data.annotations.mat import read_mat_label
from maeseg.data.annotations.protocol import IGNORED, Annotations

__all__ = ["IGNORED", "Annotations", "find_annotations", "read_labelmap", "read_mat_label"]
