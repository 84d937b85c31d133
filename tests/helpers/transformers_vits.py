"""Tiny transformers of Hugging Face's library, as independent references, and their weights by other projects' names.

The names are spelled out here without the code that is tested.
"""

from typing import Any

import torch
import transformers
from torch import Tensor

State = dict[str, Tensor]

WIDTH, DEPTH, HEADS, SIDE, PATCH = 32, 3, 4, 32, 8
SIZES: dict[str, Any] = {
    "hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "image_size": SIDE,
    "patch_size": PATCH, "layer_norm_eps": 1e-6,
}  # fmt: skip
DECODER_WIDTH, DECODER_DEPTH = 32, 2
"""Of MAE's decoder, which has 16 heads."""


def randomized(network: Any) -> Any:
    """The network with random values everywhere, also in tokens, norms, biases and positions."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.normal_(std=0.2, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return network.eval()


def mae(**options: Any) -> Any:
    """ViTMAEForPreTraining with normalized targets."""
    sizes: dict[str, Any] = {
        **SIZES, "intermediate_size": 4 * WIDTH, "decoder_hidden_size": DECODER_WIDTH,
        "decoder_num_hidden_layers": DECODER_DEPTH, "decoder_num_attention_heads": 16,
        "decoder_intermediate_size": 4 * DECODER_WIDTH, "norm_pix_loss": True,
    }  # fmt: skip
    return randomized(transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**sizes | options)))


def like_test_vit(**options: Any) -> Any:
    """ViTMAEForPreTraining with an encoder of the sizes of timm's ``test_vit``, for images of 64 pixels."""
    sizes = {
        "hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 192,
        "image_size": 64, "patch_size": 16,
    }  # fmt: skip
    return mae(**sizes | options)


def vit() -> Any:
    """ViTModel."""
    return randomized(transformers.ViTModel(transformers.ViTConfig(**SIZES, intermediate_size=4 * WIDTH)))


def dinov2(registers: int = 0, gated: bool = False) -> Any:
    """Dinov2Model, or Dinov2WithRegistersModel, perhaps with gated perceptrons."""
    if registers:
        config = transformers.Dinov2WithRegistersConfig(**SIZES, num_register_tokens=registers, use_swiglu_ffn=gated)
        return randomized(transformers.Dinov2WithRegistersModel(config))
    return randomized(transformers.Dinov2Model(transformers.Dinov2Config(**SIZES, use_swiglu_ffn=gated)))


def dinov3(gated: bool = False) -> Any:
    """DINOv3ViTModel with four registers."""
    config = transformers.DINOv3ViTConfig(
        **SIZES | {"layer_norm_eps": 1e-5}, intermediate_size=4 * WIDTH, num_register_tokens=4, use_gated_mlp=gated,
        hidden_act="silu" if gated else "gelu",
    )  # fmt: skip
    return randomized(transformers.DINOv3ViTModel(config))


def clip() -> Any:
    """CLIPVisionModel with the exact GELU."""
    sizes = SIZES | {"layer_norm_eps": 1e-5}
    return randomized(
        transformers.CLIPVisionModel(
            transformers.CLIPVisionConfig(**sizes, intermediate_size=4 * WIDTH, hidden_act="gelu")
        )
    )


def siglip() -> Any:
    """SiglipVisionModel with the exact GELU, which has no class token."""
    config = transformers.SiglipVisionConfig(**SIZES, intermediate_size=4 * WIDTH, hidden_act="gelu")
    return randomized(transformers.SiglipVisionModel(config))


def blocks_of(theirs: State, prefix: str) -> int:
    """Number of blocks under a prefix."""
    return len({key.removeprefix(prefix).split(".")[0] for key in theirs if key.startswith(prefix)})


def official_block(theirs: State, old: str, new: str) -> State:
    """One block of ViTModel, by the names of timm and of MAE's published code."""
    attention = f"{old}attention."
    renamed = {}
    for kind in ("weight", "bias"):
        parts = [theirs[f"{attention}{part}_proj.{kind}"] for part in "qkv"]
        renamed[f"{new}attn.qkv.{kind}"] = torch.cat(parts)
        renamed[f"{new}attn.proj.{kind}"] = theirs[f"{attention}o_proj.{kind}"]
        renamed[f"{new}norm1.{kind}"] = theirs[f"{old}layernorm_before.{kind}"]
        renamed[f"{new}norm2.{kind}"] = theirs[f"{old}layernorm_after.{kind}"]
        renamed[f"{new}mlp.fc1.{kind}"] = theirs[f"{old}mlp.fc1.{kind}"]
        renamed[f"{new}mlp.fc2.{kind}"] = theirs[f"{old}mlp.fc2.{kind}"]
    return renamed


def official_mae(theirs: State, decoder: bool = True) -> State:
    """Weights of ViTMAEForPreTraining, or their gradients, by the names of MAE's published code.

    Args:
        theirs: Values by the keys of ViTMAEForPreTraining.
        decoder: Include the decoder.
    """
    embeddings = "vit.embeddings."
    renamed = {
        "cls_token": theirs[f"{embeddings}cls_token"],
        "pos_embed": theirs[f"{embeddings}position_embeddings"],
        "patch_embed.proj.weight": theirs[f"{embeddings}patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": theirs[f"{embeddings}patch_embeddings.projection.bias"],
        "norm.weight": theirs["vit.layernorm.weight"],
        "norm.bias": theirs["vit.layernorm.bias"],
    }
    for number in range(blocks_of(theirs, "vit.layers.")):
        renamed |= official_block(theirs, f"vit.layers.{number}.", f"blocks.{number}.")
    if decoder:
        for key in ("decoder_embed.weight", "decoder_embed.bias", "mask_token", "decoder_pos_embed"):
            renamed[key] = theirs[f"decoder.{key}"]
        for number in range(blocks_of(theirs, "decoder.decoder_layers.")):
            renamed |= official_block(theirs, f"decoder.decoder_layers.{number}.", f"decoder_blocks.{number}.")
        for key in ("decoder_norm.weight", "decoder_norm.bias", "decoder_pred.weight", "decoder_pred.bias"):
            renamed[key] = theirs[f"decoder.{key}"]
    return renamed


def before_version_5(theirs: State) -> State:
    """Names of transformers' ViTMAEForPreTraining, ViTModel and Dinov2Model in published files."""
    renamed = {}
    for key, value in theirs.items():
        for new, old in (
            ("vit.layers.", "vit.encoder.layer."), ("attention.q_proj", "attention.attention.query"),
            ("attention.k_proj", "attention.attention.key"), ("attention.v_proj", "attention.attention.value"),
            ("attention.o_proj", "attention.output.dense"),
        ):  # fmt: skip
            key = key.replace(new, old)
        if key.startswith("layers."):
            key = f"encoder.layer.{key.removeprefix('layers.')}"
        if "layer_scale" not in "".join(theirs):
            key = key.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        renamed[key] = value
    return renamed


def official_dinov2(network: Any, chunks: int = 0) -> State:
    """Weights of Dinov2Model as DINOv2's published code has them.

    Args:
        network: The network, perhaps with registers or gated perceptrons.
        chunks: Blocks in a chunk; 0 for no chunks, as in the releases.
    """
    theirs = network.state_dict()
    renamed = {
        "cls_token": theirs["embeddings.cls_token"],
        "pos_embed": theirs["embeddings.position_embeddings"],
        "mask_token": theirs["embeddings.mask_token"],
        "patch_embed.proj.weight": theirs["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": theirs["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": theirs["layernorm.weight"],
        "norm.bias": theirs["layernorm.bias"],
    }
    if "embeddings.register_tokens" in theirs:
        renamed["register_tokens"] = theirs["embeddings.register_tokens"]
    for number in range(DEPTH):
        old = f"encoder.layer.{number}."
        new = f"blocks.{number // chunks}.{number}." if chunks else f"blocks.{number}."
        for which in (1, 2):
            renamed[f"{new}ls{which}.gamma"] = theirs[f"{old}layer_scale{which}.lambda1"]
        for kind in ("weight", "bias"):
            parts = [theirs[f"{old}attention.{part}_proj.{kind}"] for part in "qkv"]
            renamed[f"{new}attn.qkv.{kind}"] = torch.cat(parts)
            renamed[f"{new}attn.proj.{kind}"] = theirs[f"{old}attention.o_proj.{kind}"]
            renamed[f"{new}norm1.{kind}"] = theirs[f"{old}norm1.{kind}"]
            renamed[f"{new}norm2.{kind}"] = theirs[f"{old}norm2.{kind}"]
            if f"{old}mlp.gate_proj.{kind}" in theirs:
                gates = [theirs[f"{old}mlp.{part}_proj.{kind}"] for part in ("gate", "up")]
                renamed[f"{new}mlp.w12.{kind}"] = torch.cat(gates)
                renamed[f"{new}mlp.w3.{kind}"] = theirs[f"{old}mlp.down_proj.{kind}"]
            else:
                renamed[f"{new}mlp.fc1.{kind}"] = theirs[f"{old}mlp.fc1.{kind}"]
                renamed[f"{new}mlp.fc2.{kind}"] = theirs[f"{old}mlp.fc2.{kind}"]
    return renamed


def official_clip(network: Any) -> State:
    """Weights of CLIPVisionModel as OpenAI's code and open_clip have them, beside a part of the text's."""
    theirs = network.state_dict()
    place = "visual.transformer.resblocks."
    renamed = {
        "positional_embedding": torch.zeros(77, 8),
        "transformer.resblocks.0.ln_1.weight": torch.zeros(8),
        "visual.class_embedding": theirs["embeddings.class_embedding"],
        "visual.positional_embedding": theirs["embeddings.position_embedding.weight"],
        "visual.conv1.weight": theirs["embeddings.patch_embedding.weight"],
        "visual.proj": torch.zeros(WIDTH, 16),
    }
    for kind in ("weight", "bias"):
        renamed[f"visual.ln_pre.{kind}"] = theirs[f"pre_layrnorm.{kind}"]
        renamed[f"visual.ln_post.{kind}"] = theirs[f"post_layernorm.{kind}"]
        for number in range(DEPTH):
            old, new = f"encoder.layers.{number}.", f"{place}{number}."
            parts = [theirs[f"{old}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            renamed[f"{new}attn.in_proj_{kind}"] = torch.cat(parts)
            renamed[f"{new}attn.out_proj.{kind}"] = theirs[f"{old}self_attn.out_proj.{kind}"]
            renamed[f"{new}ln_1.{kind}"] = theirs[f"{old}layer_norm1.{kind}"]
            renamed[f"{new}ln_2.{kind}"] = theirs[f"{old}layer_norm2.{kind}"]
            renamed[f"{new}mlp.c_fc.{kind}"] = theirs[f"{old}mlp.fc1.{kind}"]
            renamed[f"{new}mlp.c_proj.{kind}"] = theirs[f"{old}mlp.fc2.{kind}"]
    return renamed


def official_dinov3(network: Any) -> State:
    """Weights of DINOv3ViTModel as DINOv3's published code has them, whose keys have no bias."""
    theirs = network.state_dict()
    renamed = {
        "cls_token": theirs["embeddings.cls_token"],
        "mask_token": theirs["embeddings.mask_token"],
        "storage_tokens": theirs["embeddings.register_tokens"],
        "patch_embed.proj.weight": theirs["embeddings.patch_embeddings.weight"],
        "patch_embed.proj.bias": theirs["embeddings.patch_embeddings.bias"],
        "rope_embed.periods": torch.zeros(2),
        "norm.weight": theirs["norm.weight"],
        "norm.bias": theirs["norm.bias"],
    }
    gated = "model.layer.0.mlp.gate_proj.weight" in theirs
    names = {"w1": "gate_proj", "w2": "up_proj", "w3": "down_proj"} if gated else {"fc1": "up_proj", "fc2": "down_proj"}
    for number in range(DEPTH):
        old, new = f"model.layer.{number}.", f"blocks.{number}."
        query, value = (theirs[f"{old}attention.{part}_proj.bias"] for part in "qv")
        weights = [theirs[f"{old}attention.{part}_proj.weight"] for part in "qkv"]
        renamed[f"{new}attn.qkv.weight"] = torch.cat(weights)
        renamed[f"{new}attn.qkv.bias"] = torch.cat([query, torch.zeros(WIDTH), value])
        renamed[f"{new}attn.qkv.bias_mask"] = torch.ones(3 * WIDTH)
        for which in (1, 2):
            renamed[f"{new}ls{which}.gamma"] = theirs[f"{old}layer_scale{which}.lambda1"]
        for kind in ("weight", "bias"):
            renamed[f"{new}attn.proj.{kind}"] = theirs[f"{old}attention.o_proj.{kind}"]
            renamed[f"{new}norm1.{kind}"] = theirs[f"{old}norm1.{kind}"]
            renamed[f"{new}norm2.{kind}"] = theirs[f"{old}norm2.{kind}"]
            for ours, hf in names.items():
                renamed[f"{new}mlp.{ours}.{kind}"] = theirs[f"{old}mlp.{hf}.{kind}"]
    return renamed
