"""The masked autoencoder, and what becomes of its weights in a U-Net."""

from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import torch

from helpers.tiny_runs import WIDTHS
from maeseg.errors import UserError
from maeseg.masking.patches import reconstruction_loss, visible_pixels
from maeseg.masking.visible import GridWindow, random_visible
from maeseg.models.densify import EPSILON, MOMENTUM, Densify, ScaleNorm
from maeseg.models.masked_autoencoder import EncoderDecoder, MaskedAutoencoder, widths
from maeseg.models.unet import (
    as_size,
    build_unet,
    check_image_size,
    check_patch_size,
    choose_patch_size,
    count_parameters,
    largest_stride,
)
from maeseg.sparse import pack, unpack
from maeseg.weights.transfer import load_strictly, transfer_to_unet

ENCODER = "test_resnet"


@pytest.fixture
def autoencoder() -> MaskedAutoencoder:
    """One whose running statistics, mask tokens and factors are not what they start from."""
    network = MaskedAutoencoder.from_unet(build_unet(ENCODER, WIDTHS)).double()
    for _ in range(2):
        network(torch.randn(2, 3, 64, 64).double(), random_visible(2, (2, 2), 0.5))
    with torch.no_grad():
        for norm in network.densify.norms:
            assert isinstance(norm, ScaleNorm)
            norm.weight.uniform_(0.5, 2.0)
    return network.eval()


def new_unet() -> smp.Unet:
    return build_unet(ENCODER, WIDTHS).double().eval()


# --- the masked autoencoder


@pytest.mark.parametrize(("height", "width", "patch"), [(64, 64, 32), (32, 96, 32), (128, 64, 64)])
def test_reconstruction_has_the_image_shape(height: int, width: int, patch: int) -> None:
    network = MaskedAutoencoder.from_unet(build_unet(ENCODER, WIDTHS))
    visible_BYX = random_visible(2, (height // patch, width // patch), 0.5)
    predicted_BCHW = network(torch.randn(2, 3, height, width), visible_BYX)
    assert predicted_BCHW.shape == (2, 3, height, width)
    predicted_BCHW.square().mean().backward()
    untouched = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not untouched


def test_a_window_of_everything_is_everything_and_a_smaller_one_decodes_its_own_place(
    autoencoder: MaskedAutoencoder,
) -> None:
    images_BCHW, visible_BYX = torch.randn(2, 3, 96, 64).double(), random_visible(2, (3, 2), 0.5)
    whole = autoencoder(images_BCHW, visible_BYX)
    torch.testing.assert_close(autoencoder(images_BCHW, visible_BYX, GridWindow((0, 0), (3, 2))), whole)
    seen: list[torch.Size] = []
    lower = GridWindow(first=(1, 0), counts=(2, 2))
    with autoencoder.decoder.register_forward_pre_hook(lambda _, maps: seen.extend(m.shape for m in maps[0])):
        part = autoencoder(images_BCHW, visible_BYX, lower)
    assert part.shape == (2, 3, 64, 64)
    assert [shape[2:] for shape in seen] == [(64 // 2**level, 64 // 2**level) for level in range(6)]
    # what it decodes is that place and no other
    assert (part - lower.crop(whole, 32)).abs().mean() < (part - whole[:, :, :64]).abs().mean()


@pytest.mark.parametrize("training", [True, False])
def test_a_masked_pixel_never_reaches_the_prediction(autoencoder: MaskedAutoencoder, training: bool) -> None:
    autoencoder.train(training)
    images_BCHW = torch.randn(2, 3, 64, 96).double()
    visible_BYX = random_visible(2, (2, 3), 0.5)
    hidden = ~visible_pixels(visible_BYX, 32).expand_as(images_BCHW)
    spoilt_BCHW = torch.where(hidden, torch.nan, images_BCHW)
    assert torch.equal(autoencoder(spoilt_BCHW, visible_BYX), autoencoder(images_BCHW, visible_BYX))
    moved = autoencoder(images_BCHW + ~hidden, visible_BYX)
    assert not torch.equal(moved, autoencoder(images_BCHW, visible_BYX))  # and a visible pixel does


def test_gradient_stops_at_masked_pixels(autoencoder: MaskedAutoencoder) -> None:
    images_BCHW = torch.randn(2, 3, 64, 96).double().requires_grad_()
    visible_BYX = random_visible(2, (2, 3), 0.5)
    autoencoder(images_BCHW, visible_BYX).square().sum().backward()
    assert images_BCHW.grad is not None
    seen = visible_pixels(visible_BYX, 32).expand_as(images_BCHW)
    assert images_BCHW.grad[~seen].abs().max() == 0
    assert images_BCHW.grad[seen].abs().min() > 0


@pytest.mark.parametrize("encoder", [ENCODER, "test_efficientnet", "test_convnext", "test_byobnet"])
def test_a_unet_of_four_levels(encoder: str) -> None:
    network = MaskedAutoencoder.from_unet(build_unet(encoder, WIDTHS[:4]))
    visible_BYX = random_visible(2, (3, 4), 0.5)
    predicted_BCHW = network(torch.randn(2, 3, 48, 64), visible_BYX)  # patches of 16
    assert predicted_BCHW.shape == (2, 3, 48, 64)
    predicted_BCHW.square().mean().backward()
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]  # all of it is used


def test_the_unet_of_four_levels_computes_what_pretraining_computed() -> None:
    network = MaskedAutoencoder.from_unet(build_unet(ENCODER, WIDTHS[:4])).double()
    network(torch.randn(2, 3, 64, 64).double(), random_visible(2, (4, 4), 0.5))
    network.eval()
    unet, images_BCHW = build_unet(ENCODER, WIDTHS[:4]).double().eval(), torch.randn(2, 3, 48, 80).double()
    assert len(transfer_to_unet(network, unet, "here").adapted) == 3
    decoded: list[torch.Tensor] = []
    network.decoder.register_forward_hook(lambda module, args, output: decoded.append(output))
    with torch.no_grad():
        network(images_BCHW, torch.ones(2, 3, 5, dtype=torch.bool))
        torch.testing.assert_close(unet.decoder(unet.encoder(images_BCHW)), decoded[0], rtol=1e-9, atol=1e-12)


# --- in a training loop of one's own


def test_the_loss_is_that_of_the_masked_patches() -> None:
    network, images_BCHW = MaskedAutoencoder(ENCODER, WIDTHS).eval(), torch.randn(2, 3, 64, 96)
    generators = [torch.Generator().manual_seed(7) for _ in range(2)]
    visible_BYX = random_visible(2, (2, 3), 0.5, generators[0])
    for normalize in (True, False):
        expected = reconstruction_loss(network(images_BCHW, visible_BYX), images_BCHW, visible_BYX, 32, normalize)
        assert network.loss(images_BCHW, visible=visible_BYX, normalize_target=normalize) == expected
    drawn = network.loss(images_BCHW, mask_ratio=0.5, generator=generators[1])
    assert drawn == network.loss(images_BCHW, visible=visible_BYX)
    drawn.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_one_and_several_ways_to_build_the_same_network() -> None:
    torch.manual_seed(3)
    by_name = MaskedAutoencoder(ENCODER, WIDTHS, channels=4)
    torch.manual_seed(3)
    from_unet = MaskedAutoencoder.from_unet(build_unet(ENCODER, WIDTHS, 4), patch_size=64)
    encoder = build_unet(ENCODER, WIDTHS, 4).encoder
    of_module = MaskedAutoencoder(encoder, WIDTHS)
    assert of_module.encoder is encoder
    assert (by_name.patch_size, from_unet.patch_size, of_module.patch_size) == (32, 64, 32)
    assert widths(by_name.decoder) == widths(of_module.decoder) == WIDTHS
    state = by_name.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in from_unet.state_dict().items())
    assert by_name.state_dict().keys() == of_module.state_dict().keys()


def test_to_unet_carries_encoder_and_decoder_over(autoencoder: MaskedAutoencoder) -> None:
    unet, by_transfer = autoencoder.to_unet(classes=3), build_unet(ENCODER, WIDTHS, maps=3).double()
    transfer_to_unet(autoencoder, by_transfer, "here")
    assert isinstance(unet, smp.Unet)
    assert unet.state_dict().keys() == by_transfer.state_dict().keys()
    for key, value in by_transfer.state_dict().items():
        assert key.startswith("segmentation_head") or torch.equal(unet.state_dict()[key], value), key
    assert unet(torch.randn(2, 3, 64, 64).double()).shape == (2, 3, 64, 64)
    weight = next(unet.encoder.parameters())
    with torch.no_grad():
        weight.add_(1)
    assert not torch.equal(weight, next(autoencoder.encoder.parameters()))


class Coarse(torch.nn.Module):
    """A decoder of the deepest map alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = 4
        self.project = torch.nn.Conv2d(channels, 4, kernel_size=1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        size = features[0].shape[2:]
        return torch.nn.functional.interpolate(self.project(features[-1]), size=size, mode="bilinear")


def test_a_decoder_of_the_users_own() -> None:
    encoder = build_unet(ENCODER, WIDTHS).encoder
    network = MaskedAutoencoder(encoder, decoder=Coarse(encoder.out_channels[-1])).double()
    images_BCHW = torch.randn(2, 3, 64, 96).double()
    network.loss(images_BCHW, mask_ratio=0.5).backward()
    segmenter = network.eval().to_unet(classes=2).eval()
    assert isinstance(segmenter, EncoderDecoder)
    decoded: list[torch.Tensor] = []
    network.decoder.register_forward_hook(lambda module, args, output: decoded.append(output))
    with torch.no_grad():
        network(images_BCHW, torch.ones(2, 2, 3, dtype=torch.bool))
        maps = segmenter.decoder(segmenter.encoder(images_BCHW))
    torch.testing.assert_close(maps, decoded[0], rtol=1e-9, atol=1e-12)
    assert segmenter(images_BCHW).shape == (2, 2, 64, 96)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: MaskedAutoencoder(ENCODER, WIDTHS).loss(torch.randn(1, 3, 64, 80)), "64 x 80"),
        (lambda: MaskedAutoencoder(ENCODER, WIDTHS).loss(torch.randn(3, 64, 64)), "(3, 64, 64): give a batch"),
        (lambda: MaskedAutoencoder(ENCODER, WIDTHS).to_unet(classes=0), "classes 0"),
        (lambda: MaskedAutoencoder(ENCODER, WIDTHS).loss(torch.randn(1, 3, 64, 64), mask_ratio=1.0), "mask_ratio"),
        (lambda: MaskedAutoencoder(ENCODER, WIDTHS, patch_size=48), "48"),
        (lambda: MaskedAutoencoder(ENCODER, WIDTHS, decoder=torch.nn.Identity()), "out_channels"),
        (lambda: MaskedAutoencoder.from_unet(smp.Unet("resnet18", encoder_weights=None)).to_unet(), "tu-resnet34"),
    ],
)
def test_what_an_autoencoder_cannot_be_built_from(call: Callable[[], object], named: str) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert named in str(error.value)


# --- densify


def test_scale_norm_statistics() -> None:
    norm = ScaleNorm(3).double()
    images_BCHW = torch.randn(2, 3, 64, 64).double() * torch.tensor([1.0, 5.0, 0.1]).double().view(1, 3, 1, 1)
    visible_BYX = random_visible(2, (2, 2), 0.5)
    seen = visible_pixels(visible_BYX, 32).squeeze(1)
    by_hand_C = torch.stack([images_BCHW[:, c][seen].square().mean() for c in range(3)])

    normed = unpack(norm(pack(images_BCHW, visible_BYX))).detach()
    for c in range(3):
        assert normed[:, c][seen].square().mean() == pytest.approx(1, rel=1e-2)
        assert torch.allclose(normed[:, c][seen], images_BCHW[:, c][seen] / (by_hand_C[c] + EPSILON).sqrt())
    assert torch.allclose(norm.mean_square, 1 + MOMENTUM * (by_hand_C - 1))

    norm.eval()
    before = norm.mean_square.clone()
    scaled = unpack(norm(pack(images_BCHW, visible_BYX)))
    assert torch.equal(norm.mean_square, before)
    assert torch.allclose(
        scaled, normed.new_zeros(()).where(~seen[:, None], images_BCHW * norm.factor_C().view(1, 3, 1, 1))
    )


def test_densify_fills_masked_places_with_the_token_of_the_scale() -> None:
    densify = Densify([3, 3])
    visible_BYX = random_visible(2, (2, 2), 0.5)
    tiles = [pack(torch.randn(2, 3, side, side), visible_BYX) for side in (64, 32)]
    for number, dense_BCHW in enumerate(densify(tiles)):
        hidden = ~visible_pixels(visible_BYX, dense_BCHW.shape[-1] // 2)
        for c in range(3):
            token = densify.tokens[number][c]
            assert (dense_BCHW[:, c : c + 1][hidden] == token).all()
            assert (dense_BCHW[:, c : c + 1][~hidden] != token).all()


# --- transfer


def test_the_unet_computes_what_pretraining_computed(autoencoder: MaskedAutoencoder) -> None:
    unet, images_BCHW = new_unet(), torch.randn(2, 3, 64, 96).double()
    everything = torch.ones(2, 2, 3, dtype=torch.bool)
    transfer_to_unet(autoencoder, unet, "here")
    decoded: list[torch.Tensor] = []
    autoencoder.decoder.register_forward_hook(lambda module, args, output: decoded.append(output))
    with torch.no_grad():
        autoencoder(images_BCHW, everything)
        ours_BCHW = unet.decoder(unet.encoder(images_BCHW))
    assert ours_BCHW.std() > 1e-3
    torch.testing.assert_close(ours_BCHW, decoded[0], rtol=1e-9, atol=1e-12)


def test_the_transfer_accounts_for_every_key(autoencoder: MaskedAutoencoder) -> None:
    unet = new_unet()
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    theirs = {key: value.clone() for key, value in autoencoder.state_dict().items()}
    report = transfer_to_unet(autoencoder, unet, "here")
    after = unet.state_dict()
    assert sorted(report.loaded + report.adapted + report.new) == sorted(after)
    assert sorted(report.loaded + report.adapted + report.skipped) == sorted(theirs)
    assert all(torch.equal(after[key], theirs[key]) for key in report.loaded)
    assert not any(torch.equal(after[key], theirs[key]) for key in report.adapted)
    assert all(torch.equal(after[key], before[key]) for key in report.new)
    assert {key.split(".")[0] for key in report.new} == {"segmentation_head"}
    assert {key.split(".")[0] for key in report.skipped} == {"densify", "head"}
    assert all(torch.equal(value, theirs[key]) for key, value in autoencoder.state_dict().items()), "source changed"
    assert str(report) == (
        f"{len(report.loaded)} keys loaded, 4 adapted (decoder), 2 new (segmentation_head), "
        f"{len(report.skipped)} skipped (densify, head)"
    )


def test_loading_is_strict() -> None:
    unet = new_unet()
    whole = unet.state_dict()
    before = {key: value.clone() for key, value in whole.items()}
    first, *_, last = whole
    offers = {
        "other shape": ({**whole, first: torch.zeros(7)}, f"there does not fit: {first} is (7,) there and"),
        "missing key": ({key: whole[key] for key in whole if key != last}, f"1 keys are missing, {last} first"),
        "not finite": ({**whole, last: torch.full_like(whole[last], torch.nan)}, f"{last} has values that are not"),
        "nothing": ({"fc.weight": torch.zeros(1)}, "there has no key of this network: it holds fc.weight"),
        "empty": ({}, "it holds no keys"),
    }
    for offered, said in offers.values():
        with pytest.raises(UserError) as error:
            load_strictly(unet, offered, "there")
        assert said in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in unet.state_dict().items())


def test_what_may_be_new_may_be_missing_and_the_rest_is_skipped() -> None:
    unet, offered = new_unet(), new_unet().state_dict()
    head = [key for key in offered if key.startswith("segmentation_head")]
    kept = {key: value for key, value in offered.items() if key not in head} | {"extra": torch.zeros(1)}
    report = load_strictly(unet, kept, "there", may_be_new=("segmentation_head",))
    assert (list(report.new), report.skipped, report.adapted) == (head, ("extra",), ())


def test_weights_of_another_width_do_not_fit(autoencoder: MaskedAutoencoder) -> None:
    with pytest.raises(UserError, match="does not fit: decoder"):
        transfer_to_unet(autoencoder, build_unet(ENCODER, [32, 16, 16, 8, 16]), "there")


# --- the U-Net


def test_unet_shape_and_parameter_count() -> None:
    unet = build_unet(ENCODER, WIDTHS, in_channels=4).eval()
    assert unet(torch.randn(2, 4, 32, 96)).shape == (2, 1, 32, 96)
    assert count_parameters(unet) == sum(value.numel() for value in unet.parameters())
    frozen = sum(value.numel() for value in unet.encoder.parameters())
    unet.encoder.requires_grad_(False)
    assert count_parameters(unet) == sum(value.numel() for value in unet.parameters()) - frozen


def test_parameter_count_of_a_known_unet() -> None:
    assert count_parameters(build_unet("resnet18")) == 14_328_209


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: build_unet("resnet19"), "'resnet19' is not a timm model; did you mean resnet18"),
        (lambda: build_unet("vit_tiny_patch16_224"), "cannot be the encoder of a U-Net"),
        (lambda: build_unet(ENCODER, [8, 8]), "[8, 8] must be three to five widths"),
        (lambda: build_unet(ENCODER, [8, 8, 8, 8, 0]), "must be three to five widths"),
        (lambda: as_size([1, 2, 3]), "must be one side or [height, width]"),
        (lambda: check_patch_size(48, 32), "--patch_size 48 is not a multiple of the encoder's largest stride 32: use"),
        (lambda: check_patch_size(0, 32), "use 32 or 64"),
        (lambda: check_patch_size(16, 32), "stride 32 (four --decoder_channels make it 16): use 32 or 64"),
        (lambda: check_patch_size(40, 16), "largest stride 16: use 32 or 48"),
        (lambda: check_image_size((100, 64), 32), "use [96, 64] or [128, 64]"),
        (lambda: check_image_size((10, 10), 32), "use [32, 32]"),
        (lambda: check_image_size((0, 64), 32), "use [32, 64]"),
    ],
)
def test_what_does_not_fit_is_named(call: Callable[[], object], said: str) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert said in str(error.value)


def test_sizes() -> None:
    assert as_size(64) == (64, 64)
    assert as_size([32, 96]) == (32, 96)
    check_image_size((32, 96), 32)
    check_patch_size(64, 32)
    check_patch_size(16, 16)
    assert [largest_stride(WIDTHS[:depth]) for depth in (3, 4, 5)] == [8, 16, 32]


@pytest.mark.parametrize(
    ("size", "stride", "side"),
    [
        ((224, 224), 32, 32),
        ((448, 448), 32, 64),
        ((448, 640), 32, 64),
        ((480, 480), 32, 32),  # 64 does not divide it, and 96 gives 5 x 5
        ((128, 128), 32, 32),  # 4 x 4 at the most
        ((128, 128), 16, 16),
        ((224, 224), 16, 32),
        ((576, 1152), 32, 96),
    ],
)
def test_the_patch_side_gives_six_patches_or_is_the_stride(size: tuple[int, int], stride: int, side: int) -> None:
    assert choose_patch_size(None, size, stride) == side
    assert choose_patch_size(48, size, stride) == 48
