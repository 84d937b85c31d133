"""Generated volumes."""

import numpy as np
import pytest
import torch

from maeseg.data.sources.base import open_source
from maeseg.data.survey import survey
from maeseg.data.volumes.source import settle_spacing
from maeseg.data.volumes.synthetic import SPACING, SyntheticVolumes
from maeseg.errors import UserError


def test_volumes_are_a_function_of_their_index() -> None:
    first, second = SyntheticVolumes(3), SyntheticVolumes(9)
    assert torch.equal(first.volume(2).values_CDHW, second.volume(2).values_CDHW)
    assert not torch.equal(first.volume(2).values_CDHW, first.volume(1).values_CDHW)
    assert not torch.equal(first.volume(2).values_CDHW, SyntheticVolumes(3, test=True).volume(2).values_CDHW)
    assert first.volume(0).values_CDHW.shape == (1, 32, 40, 28)


def test_facts_are_those_of_the_volumes() -> None:
    source = SyntheticVolumes(2, 16)
    facts = survey(source).facts
    assert facts[0].content != facts[1].content
    assert settle_spacing(source, facts, [0, 1], None) == SPACING
    assert source.pixels(0).shape[1:] == source.label(0).shape == source.shape == (16, 20, 14)


def test_every_class_occurs_and_intensity_alone_does_not_tell() -> None:
    source = SyntheticVolumes(12)
    labels = np.stack([source.stored_label(index) for index in range(12)])
    values = np.stack([source.volume(index).values_CDHW[0] for index in range(12)])
    assert all((labels == number).any((1, 2, 3)).all() for number in (0, 1, 2))
    assert 0.005 < (labels > 0).mean() < 0.2
    scaled = (values - values.mean((1, 2, 3), keepdims=True)) / values.std((1, 2, 3), keepdims=True)
    best = max(
        2 * (guess & (labels > 0)).sum() / (guess.sum() + (labels > 0).sum())
        for threshold in np.linspace(0, 4, 17)
        for guess in [scaled > threshold]
    )
    assert best < 0.7


def test_name() -> None:
    source = open_source("synthetic-volumes:5@16", labeled=True, channels=1)
    assert len(source) == 5
    assert source.classes.names == ("background", "tube", "blob")
    for bad in ("synthetic-volumes:0", "synthetic-volumes:5@4", "synthetic-volumes:x"):
        with pytest.raises(UserError, match="synthetic-volumes:60"):
            open_source(bad, labeled=True, channels=1)
