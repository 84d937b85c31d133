import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maeseg.errors import UserError
from maeseg.masking.patches import patch_statistics, patchify, reconstruction_loss, unpatchify, visible_pixels
from maeseg.masking.visible import GridWindow, random_visible, random_window, visible_count

# The visible grid.


@settings(max_examples=50, derandomize=True)
@given(
    batch=st.integers(1, 5),
    grid=st.tuples(st.integers(1, 9), st.integers(2, 9)),
    mask_ratio=st.floats(0.01, 0.99),
)
def test_every_image_shows_the_same_share(batch: int, grid: tuple[int, int], mask_ratio: float) -> None:
    visible = random_visible(batch, grid, mask_ratio)
    assert visible.dtype == torch.bool
    assert visible.shape == (batch, *grid)
    counts = visible.flatten(1).sum(1)
    patches = grid[0] * grid[1]
    assert (counts == visible_count(patches, mask_ratio)).all()
    assert 1 <= int(counts[0]) < patches
    exact = patches * (1 - mask_ratio)
    assert abs(int(counts[0]) - exact) <= 0.5 or int(counts[0]) in (1, patches - 1)


def test_sixty_percent_of_a_224_pixel_image() -> None:
    assert random_visible(1, (7, 7), 0.6).sum() == 20


def test_every_patch_and_pair_of_patches_is_equally_likely() -> None:
    """5 % of freedom is far beyond chance: the standard error is 1.1 % of a share, 2.7 % of a pair's."""
    images = 16000
    visible = random_visible(images, (2, 3), 0.5, torch.Generator().manual_seed(0)).flatten(1).double()
    shares = visible.mean(0)
    torch.testing.assert_close(shares, torch.full_like(shares, 1 / 2), rtol=0.05, atol=0)
    pairs = visible.T @ visible / images
    off_diagonal = pairs[~torch.eye(6, dtype=torch.bool)]
    # two given patches among 3 visible of 6: 3/6 * 2/5
    torch.testing.assert_close(off_diagonal, torch.full_like(off_diagonal, 0.2), rtol=0.05, atol=0)


def test_images_of_a_batch_are_masked_independently() -> None:
    visible = random_visible(200, (4, 4), 0.5)
    assert len(visible.flatten(1).unique(dim=0)) > 190


def test_a_generator_repeats_the_draw() -> None:
    first, again, other = (random_visible(2, (7, 7), 0.6, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("mask_ratio", [0, 1, -0.1, 60])
def test_a_mask_ratio_that_is_no_share_is_refused(mask_ratio: float) -> None:
    with pytest.raises(UserError, match=f"mask_ratio {mask_ratio} "):
        random_visible(1, (7, 7), mask_ratio)


def test_a_grid_of_one_patch_is_refused() -> None:
    with pytest.raises(UserError, match="1 x 1"):
        random_visible(1, (1, 1), 0.5)


# Patches and the loss.


@settings(max_examples=30, derandomize=True)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    patch=st.sampled_from([1, 2, 4, 6]),
)
def test_unpatchify_is_the_inverse_of_patchify(batch: int, channels: int, grid: tuple[int, int], patch: int) -> None:
    images = torch.randn(batch, channels, grid[0] * patch, grid[1] * patch)
    patches = patchify(images, patch)
    assert patches.shape == (batch, grid[0] * grid[1], channels * patch**2)
    assert torch.equal(unpatchify(patches, patch, grid), images)


def test_patches_run_row_by_row_and_channels_first() -> None:
    images = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    patches = patchify(images, 2)
    assert torch.equal(patches[1, 4], images[1, :, 2:4, 2:4].flatten())  # second row, second column of 3


def test_patch_statistics_normalize_over_all_values_of_a_patch() -> None:
    patches = torch.randn(2, 6, 48, dtype=torch.float64) * 3 + 5
    mean, std = patch_statistics(patches)
    normalized = (patches - mean) / std
    zeros = torch.zeros(2, 6, dtype=torch.float64)
    torch.testing.assert_close(normalized.mean(-1), zeros)
    torch.testing.assert_close(normalized.std(-1), zeros + 1, rtol=0, atol=1e-6)


def test_a_flat_patch_stays_finite() -> None:
    images = torch.full((1, 3, 4, 4), 0.3, requires_grad=True)
    visible = torch.tensor([[[True, False], [False, False]]])
    loss = reconstruction_loss(images * 1, images.detach(), visible, 2)
    loss.backward()
    assert loss.isfinite()
    assert images.grad is not None and images.grad.isfinite().all()


def case() -> tuple[Tensor, Tensor, Tensor]:
    predicted = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    images = torch.randn(2, 3, 8, 12, dtype=torch.float64) * 2 + 1
    return predicted, images, random_visible(2, (2, 3), 0.5)


@pytest.mark.parametrize("normalize", [True, False])
def test_loss_is_the_mean_square_over_masked_patches_by_hand(normalize: bool) -> None:
    predicted, images, visible = case()
    visible[0, 0, 0] = ~visible[0, 0, 0]  # unequal counts: every masked patch weighs the same
    errors = []
    for b, y, x in (~visible).nonzero().tolist():
        cut = (b, slice(None), slice(4 * y, 4 * y + 4), slice(4 * x, 4 * x + 4))
        target = images[cut]
        if normalize:
            target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
        errors.append((predicted[cut] - target).square().mean())
    loss = reconstruction_loss(predicted, images, visible, 4, normalize)
    torch.testing.assert_close(loss, torch.stack(errors).mean())


def test_loss_ignores_visible_patches() -> None:
    predicted, images, visible = case()
    predicted.requires_grad_()
    seen = visible_pixels(visible, 4).expand_as(images)
    loss = reconstruction_loss(predicted, images, visible, 4)
    other = reconstruction_loss(predicted.masked_fill(seen, 9.0), images.masked_fill(seen, -9.0), visible, 4)
    assert torch.equal(loss, other)
    loss.backward()
    assert predicted.grad is not None
    assert not predicted.grad[seen].any()
    assert predicted.grad[~seen].all()


def test_loss_of_predicting_the_mean_is_one_and_of_the_truth_is_zero() -> None:
    _, images, visible = case()
    mean = reconstruction_loss(torch.zeros_like(images), images, visible, 4)
    # the standard deviation is the sample's: (P - 1) / P of one
    torch.testing.assert_close(mean, torch.tensor(47 / 48).double(), rtol=1e-5, atol=0)
    patches = patchify(images, 4)
    average, std = patch_statistics(patches)
    truth = unpatchify((patches - average) / std, 4, (2, 3))
    assert reconstruction_loss(truth, images, visible, 4) < 1e-20


@pytest.mark.parametrize("normalize", [True, False])
def test_gradient_of_the_loss_is_the_numerical_one(normalize: bool) -> None:
    predicted, images, visible = case()
    predicted.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda predicted: reconstruction_loss(predicted, images, visible, 4, normalize), (predicted,)
    )


def test_loss_is_zero_where_nothing_is_masked() -> None:
    predicted, images, visible = case()
    assert reconstruction_loss(predicted, images, torch.ones_like(visible), 4) == 0


def test_a_window_is_cut_out_of_maps_of_any_scale() -> None:
    cells = torch.arange(12).view(1, 1, 3, 4)
    window = GridWindow(first=(1, 2), counts=(2, 1))
    assert window.crop(cells).tolist() == [[[[6], [10]]]]
    enlarged = cells.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert window.crop(enlarged, 2).tolist() == [[[[6, 6], [6, 6], [10, 10], [10, 10]]]]


def test_windows_lie_everywhere_in_the_grid_and_nowhere_else() -> None:
    drawn = {random_window((3, 4), 2) for _ in range(300)}
    assert drawn == {GridWindow((top, left), (2, 2)) for top in range(2) for left in range(3)}
    assert random_window((3, 1), 2).counts == (2, 1)


def test_visible_pixels_enlarge_the_grid() -> None:
    visible = torch.tensor([[[True, False, False], [False, True, False]]])
    pixels = visible_pixels(visible, 2)
    assert pixels.shape == (1, 1, 4, 6)
    assert pixels[0, 0].int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0, 0],
    ]


# Volumes.


@settings(max_examples=20, derandomize=True)
@given(
    channels=st.integers(1, 3),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    patch=st.sampled_from([1, 2, 4]),
)
def test_unpatchify_is_the_inverse_of_patchify_of_volumes(
    channels: int, grid: tuple[int, int, int], patch: int
) -> None:
    volumes = torch.randn(2, channels, *(count * patch for count in grid))
    patches = patchify(volumes, patch)
    assert patches.shape == (2, grid[0] * grid[1] * grid[2], channels * patch**3)
    assert torch.equal(unpatchify(patches, patch, grid), volumes)


def test_blocks_run_slice_by_slice_and_channels_first() -> None:
    volumes = torch.arange(2 * 3 * 4 * 4 * 6).view(2, 3, 4, 4, 6)
    block = patchify(volumes, 2)[1, 10]  # second slice, second row, second column of 3
    assert torch.equal(block, volumes[1, :, 2:4, 2:4, 2:4].flatten())


@pytest.mark.parametrize("normalize", [True, False])
def test_loss_of_volumes_is_the_mean_square_over_masked_blocks_by_hand(normalize: bool) -> None:
    predicted = torch.randn(2, 2, 4, 6, 4, dtype=torch.float64)
    volumes = torch.randn(2, 2, 4, 6, 4, dtype=torch.float64) * 2 + 1
    visible = random_visible(2, (2, 3, 2), 0.7)
    assert visible.flatten(1).sum(1).tolist() == [4, 4]
    errors = []
    for b, z, y, x in (~visible).nonzero().tolist():
        cut = (b, slice(None), *(slice(2 * place, 2 * place + 2) for place in (z, y, x)))
        target = volumes[cut]
        if normalize:
            target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
        errors.append((predicted[cut] - target).square().mean())
    loss = reconstruction_loss(predicted, volumes, visible, 2, normalize)
    torch.testing.assert_close(loss, torch.stack(errors).mean())


def test_visible_voxels_and_windows_of_volumes() -> None:
    visible = random_visible(1, (2, 3, 2), 0.5)
    voxels = visible_pixels(visible, 2)
    assert voxels.shape == (1, 1, 4, 6, 4)
    assert torch.equal(voxels[0, 0, ::2, ::2, ::2], visible[0]) and torch.equal(
        voxels[0, 0, 1::2, 1::2, 1::2], visible[0]
    )
    window = GridWindow(first=(1, 0, 1), counts=(1, 2, 1))
    assert torch.equal(window.crop(voxels, 2), visible_pixels(window.crop(visible), 2))
    drawn = {random_window((2, 3, 1), 2).first for _ in range(60)}
    assert drawn == {(0, 0, 0), (0, 1, 0)}
    assert random_window((2, 3, 1), 2).counts == (2, 2, 1)
