"""What diffusers, PEFT and cloneofsimo/lora compute with the files that write.ts wrote or read: whole tensors against ours.

    python bench/adapters/check.py make FOLDER                                   # SD 1.5's size, random weights, 3.9 GB
    python bench/adapters/check.py compare MODEL OUT [--cloneofsimo lora.py]     # prints a table, writes OUT/table.md

lora.py is lora_diffusion/lora.py of github.com/cloneofsimo/lora; without it that format is not compared.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import pathlib
import sys

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
logging.disable(logging.WARNING)


def make(folder: pathlib.Path) -> None:
    """UNet and text encoder of SD 1.5, and a tiny autoencoder, which LoRAs leave alone."""
    sys.path.insert(0, str(ROOT / "fixtures/make"))
    from tokenizer_folder import sd_tokenizer_folder

    torch.manual_seed(0)
    text = CLIPTextConfig(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768, bos_token_id=0, eos_token_id=2, pad_token_id=1)  # fmt: skip
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}  # fmt: skip
    blocks = dict(block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    pipe = StableDiffusionPipeline(
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        text_encoder=CLIPTextModel(text),
        vae=AutoencoderKL(layers_per_block=1, norm_num_groups=32, latent_channels=4, **blocks),
        tokenizer=CLIPTokenizer.from_pretrained(sd_tokenizer_folder("<|endoftext|>")),
        scheduler=DDIMScheduler(**betas),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    path = folder / "text_encoder/model.safetensors"
    save_file({f"text_model.{k.removeprefix('text_model.')}": v for k, v in load_file(path).items()}, path, {"format": "pt"})
    sd_tokenizer_folder("<|endoftext|>", folder / "tokenizer")


def load(model: pathlib.Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(model, safety_checker=None)


def with_diffusers(pipe, out: pathlib.Path, about: dict) -> None:
    lora = out / about["lora"]
    pipe.load_lora_weights(lora.parent, weight_name=lora.name)
    if "embedding" in about:
        path = out / about["embedding"]
        pipe.load_textual_inversion(path.parent, weight_name=path.name, token=about["token"])


def with_peft(pipe, out: pathlib.Path, about: dict) -> None:
    """PEFT alone puts the factors into the UNet; only the names of the two factors are changed."""
    state = {k.removeprefix("unet."): v for k, v in load_file(out / about["lora"]).items()}
    state = {k.replace(".lora.down.", ".lora_A.").replace(".lora.up.", ".lora_B."): v for k, v in state.items()}
    targets = sorted({k.split(".lora_")[0] for k in state})
    rank = next(v.shape[0] for k, v in state.items() if "lora_A" in k)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), pipe.unet)
    result = set_peft_model_state_dict(pipe.unet, state)
    assert not result.unexpected_keys and not any("lora_" in k for k in result.missing_keys)
    pipe.load_textual_inversion((out / about["embedding"]).parent, weight_name=pathlib.Path(about["embedding"]).name)


def with_cloneofsimo(pipe, out: pathlib.Path, about: dict, source: pathlib.Path) -> None:
    """Its own loader, on modules registered in the order that diffusers 0.11 had and its numbers mean."""
    spec = importlib.util.spec_from_file_location("cloneofsimo_lora", source)
    lora = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lora)
    pipe.unet._modules["mid_block"] = pipe.unet._modules.pop("mid_block")
    for block in (m for m in pipe.unet.modules() if type(m).__name__ == "BasicTransformerBlock"):
        for name in ["attn1", "ff", "attn2"]:
            block._modules[name] = block._modules.pop(name)
    with safe_open(out / about["lora"], framework="pt") as file:
        lora.monkeypatch_or_replace_safeloras(pipe, file)
        lora.apply_learned_embed_in_clip(lora.parse_safeloras_embeds(file), pipe.text_encoder, pipe.tokenizer, idempotent=True)
    pipe.unet.eval(), pipe.text_encoder.eval()  # its layers have a dropout


@torch.no_grad()
def compare(model: pathlib.Path, out: pathlib.Path, cloneofsimo: pathlib.Path | None) -> None:
    def against(path: pathlib.Path, reader: str, use) -> str:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            ours = {k: file.get_tensor(k) for k in file.keys()}
        pipe = load(model)
        before = pipe.unet(ours["sample"], ours["timestep"], ours["states"]).sample
        use(pipe, out, about)
        states, _ = pipe.encode_prompt(about["prompt"], "cpu", 1, False)
        theirs = pipe.unet(ours["sample"], ours["timestep"], states).sample
        off = lambda a, b: f"{((a - b).abs().max() / b.abs().max()).item():.1e}"
        keys = about.get("keys")
        note = f"somebody's, {keys['matched']} of {keys['matched'] + keys['ignored']} keys" if keys else about.get("format", "none")
        print(f"{path.name}, {reader}: done", file=sys.stderr)
        return f"| {note} | {pathlib.Path(about.get('lora', '')).name} | {reader} | {off(ours['states'], states)} | {off(ours['out'], theirs)} | {off(before, theirs)} |"

    rows = [against(out / "ours-plain.safetensors", "diffusers", lambda *_: None)]
    for name in ["diffusers", "kohya", "a1111"]:
        rows.append(against(out / f"ours-{name}.safetensors", "diffusers", with_diffusers))
    rows.append(against(out / "ours-diffusers.safetensors", "PEFT", with_peft))
    if cloneofsimo:
        theirs = lambda pipe, out, about: with_cloneofsimo(pipe, out, about, cloneofsimo)
        for path in [out / "ours-cloneofsimo.safetensors", *sorted(out.glob("ours-lora-*"))]:
            rows.append(against(path, "cloneofsimo/lora", theirs))
    head = ["| layout | file | read by | text states | UNet output | moves the output by |", "|---|---|---|---|---|---|"]
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ["torch", "diffusers", "transformers", "peft"])
    if cloneofsimo:
        versions += f", lora.py sha256 {hashlib.sha256(cloneofsimo.read_bytes()).hexdigest()[:16]}"
    text = "\n".join([*head, *rows, "", f"Largest difference over largest value, whole tensors. {versions}."])
    print(text)
    (out / "table.md").write_text(text + "\n")


parser = argparse.ArgumentParser()
commands = parser.add_subparsers(dest="command", required=True)
commands.add_parser("make").add_argument("folder", type=pathlib.Path)
command = commands.add_parser("compare")
command.add_argument("model", type=pathlib.Path)
command.add_argument("out", type=pathlib.Path)
command.add_argument("--cloneofsimo", type=pathlib.Path)
args = parser.parse_args()
make(args.folder) if args.command == "make" else compare(args.model, args.out, args.cloneofsimo)
