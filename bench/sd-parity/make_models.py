"""Full-size Stable Diffusion folders with random weights, made by diffusers and transformers: nothing is downloaded.

    python bench/sd-parity/make_models.py [sd15] [sd21-v] [vit-h] [--device cuda] [--dtype float16]

Writes data/sd-parity/NAME (git-ignored; 4.3, 5.2 and 2.5 GB in float32; float16 goes to NAME-float16), each from its seed (and device). The configs are those of Stable Diffusion
1.5 and 2.1 (768 pixels, v-prediction), and of OpenCLIP's ViT-H/14 tower for pictures. The weights are the libraries' own random ones; only the last convolutions of UNet and
decoder are scaled, so that predictions have the size of noise and pictures use the range of grey values without leaving it.
"""

import argparse
import os
import pathlib
import shutil
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = os.environ["DIFFUSERS_VERBOSITY"] = "error"
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "fixtures/make"))

import torch  # noqa: E402
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel  # noqa: E402
from tokenizer_folder import sd_tokenizer_folder  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection  # noqa: E402

DATA = ROOT / "data/sd-parity"
UNET = {
    "in_channels": 4, "out_channels": 4, "block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}  # fmt: skip
VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "scaling_factor": 0.18215,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
TEXT = {"vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "set_alpha_to_one": False, "steps_offset": 1}
MODELS = {
    "sd15": {
        "seed": 15,
        "pad": "<|endoftext|>",
        "unet": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        "vae": {"sample_size": 512},
        "text": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12, "projection_dim": 768, "hidden_act": "quick_gelu"},
        # the published file also has clip_sample, which PNDM lacks and DDIM and DDPM read from it
        "scheduler": lambda: PNDMScheduler.from_config({**BETAS, "skip_prk_steps": True, "clip_sample": False}),
    },
    "sd21-v": {
        "seed": 21,
        "pad": "!",
        "unet": {"sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True, "upcast_attention": True},
        "vae": {"sample_size": 768},
        "text": {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 23, "projection_dim": 512, "hidden_act": "gelu"},
        "scheduler": lambda: DDIMScheduler(**BETAS, clip_sample=False, prediction_type="v_prediction"),
    },
}  # fmt: skip

NAMES = [*MODELS, "vit-h"]
VIT_H = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16, "image_size": 224, "patch_size": 14,
    "projection_dim": 1024, "hidden_act": "gelu",
}  # fmt: skip


@torch.no_grad()
def calibrate(unet: UNet2DConditionModel, vae: AutoencoderKL) -> None:
    """Predictions of standard deviation 1, pixels of 0.4 (they are shown from -1 to 1)."""
    noise = torch.randn(1, 4, 32, 32)
    context = torch.randn(1, 77, unet.config.cross_attention_dim)
    unet.conv_out.weight.div_(unet(noise, 500, context).sample.std())
    vae.decoder.conv_out.weight.mul_(0.4 / vae.decode(noise).sample.std())


def make(name: str, dtype: torch.dtype) -> None:
    folder = DATA / (name if dtype == torch.float32 else f"{name}-{str(dtype).removeprefix('torch.')}")
    shutil.rmtree(folder, ignore_errors=True)
    (picture_tower if name == "vit-h" else stable_diffusion)(name, folder, dtype)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"data/sd-parity/{folder.name}: {size / 1e9:.2f} GB")


def picture_tower(_name: str, folder: pathlib.Path, dtype: torch.dtype) -> None:
    torch.manual_seed(14)
    CLIPVisionModelWithProjection(CLIPVisionConfig(**VIT_H)).to(dtype).save_pretrained(folder, max_shard_size="20GB")


def stable_diffusion(name: str, folder: pathlib.Path, dtype: torch.dtype) -> None:
    spec = MODELS[name]
    torch.manual_seed(spec["seed"])
    unet = UNet2DConditionModel(**UNET, **spec["unet"]).eval()
    vae = AutoencoderKL(**VAE, **spec["vae"]).eval()
    text = CLIPTextModel(CLIPTextConfig(**TEXT, **spec["text"])).eval()
    calibrate(unet, vae)
    tokenizer_folder = sd_tokenizer_folder(spec["pad"])
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    unused = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = StableDiffusionPipeline(unet=unet, vae=vae, text_encoder=text, tokenizer=tokenizer, scheduler=spec["scheduler"](), **unused)
    pipe.to(dtype).save_pretrained(folder, max_shard_size="20GB")
    # the tokenizer's files as published models have them, not as today's transformers saves them
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(tokenizer_folder, folder / "tokenizer")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(NAMES)}; by default {', '.join(MODELS)}")
    parser.add_argument("--device", default="cpu", help="where the weights are drawn and tried (cpu)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    args = parser.parse_args()
    chosen = args.models or list(MODELS)
    if unknown := [m for m in chosen if m not in NAMES]:
        parser.error(f"unknown model {unknown[0]}: one of {', '.join(NAMES)}")
    torch.set_default_device(args.device)
    DATA.mkdir(parents=True, exist_ok=True)
    needed = len(chosen) * 6e9
    if (free := shutil.disk_usage(DATA).free) < needed:
        parser.error(f"needs {needed / 1e9:.0f} GB of disk, found {free / 1e9:.0f}")
    for model in chosen:
        make(model, getattr(torch, args.dtype))
