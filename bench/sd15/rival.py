"""The rival's side of the bench: a few steps of one kind in a process of its own, with diffusers and PEFT.

    python bench/sd15/rival.py train|generate|peak MODEL --size N --steps N --rank N [--device cuda] [--tf32] [--slicing] [--channels-last] [--checkpointing] [--compile]

One JSON line on stdout, as ours.ts writes it: `began`, `ready`, `ends`, `losses`, `threads`.
"""

import argparse
import json
import os
import pathlib
import sys
import time

BEGAN = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + int(pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
os.environ["TRANSFORMERS_VERBOSITY"] = os.environ["DIFFUSERS_VERBOSITY"] = "error"

import torch  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("kind", choices=["train", "generate", "peak"])
parser.add_argument("model")
parser.add_argument("--size", type=int)
parser.add_argument("--steps", type=int)
parser.add_argument("--rank", type=int, default=4)
parser.add_argument("--device", default="cpu")
for flag in ["tf32", "slicing", "channels-last", "checkpointing", "compile"]:
    parser.add_argument(f"--{flag}", action="store_true")
args = parser.parse_args()
READY: list[float] = []  # when the first sampling step began
ENDS: list[float] = []
LOSSES: list[float] = []


def ended() -> None:
    if args.device == "cuda":
        torch.cuda.synchronize()
    ENDS.append(time.time())


def prepared(unet: torch.nn.Module) -> torch.nn.Module:
    """The UNet with the settings asked for; scaled-dot-product attention is diffusers' default."""
    if args.slicing:
        unet.set_attention_slice("auto")
    if args.channels_last:
        unet.to(memory_format=torch.channels_last)
    if args.checkpointing:
        unet.enable_gradient_checkpointing()
    return torch.compile(unet) if args.compile else unet


def train() -> None:
    """Low-rank changes of all q, k, v and one word's embedding, AdamW, as diffusers' own training scripts set it up."""
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from peft import LoraConfig
    from transformers import CLIPTextModel, CLIPTokenizer

    unet = UNet2DConditionModel.from_pretrained(args.model, subfolder="unet", torch_dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(args.model, subfolder="text_encoder", torch_dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(args.model, subfolder="tokenizer")
    noise_scheduler = DDPMScheduler.from_pretrained(args.model, subfolder="scheduler")
    unet.to(args.device).requires_grad_(False).train()
    text.to(args.device).requires_grad_(False)
    unet.add_adapter(LoraConfig(r=args.rank, lora_alpha=args.rank, init_lora_weights="gaussian", target_modules=["to_q", "to_k", "to_v"]))
    torch.manual_seed(15)
    ids = tokenizer("a photo of a dog", padding="max_length", return_tensors="pt").input_ids.to(args.device)
    mask = (ids == tokenizer("dog", add_special_tokens=False).input_ids[0]).unsqueeze(-1).float()
    embedding = torch.nn.Parameter(0.02 * torch.randn(text.config.hidden_size, device=args.device))
    text.get_input_embeddings().register_forward_hook(lambda _module, _inputs, words: words * (1 - mask) + mask * embedding)
    learning = [embedding, *(p for p in unet.parameters() if p.requires_grad)]
    optimizer = torch.optim.AdamW(learning, lr=1e-4, weight_decay=0)
    side = args.size // 8
    latents = torch.randn(1, 4, side, side, device=args.device)
    model = prepared(unet)
    for _ in range(args.steps):
        noise = torch.randn_like(latents)
        t = torch.randint(0, noise_scheduler.config.num_train_timesteps, (1,), device=args.device)
        sample = noise_scheduler.add_noise(latents, noise, t)
        prediction = model(sample, t, text(ids)[0]).sample
        loss = torch.nn.functional.mse_loss(prediction, noise)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        LOSSES.append(loss.item())
        ended()


def generate() -> None:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    unused = {"safety_checker": None, "feature_extractor": None, "image_encoder": None}
    pipe = StableDiffusionPipeline.from_pretrained(args.model, torch_dtype=torch.float32, **unused)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(args.device)
    pipe.unet.register_forward_pre_hook(lambda *_: READY.append(time.time()))
    pipe.unet = prepared(pipe.unet)

    def step_ended(_pipe, _step, _t, kwargs: dict) -> dict:
        ended()
        return kwargs

    shape = {"height": args.size, "width": args.size, "num_inference_steps": args.steps, "output_type": "latent"}
    pipe("a photo of a red fox in the snow", generator=torch.Generator("cpu").manual_seed(42), callback_on_step_end=step_ended, **shape)


def peak() -> None:
    """Products of 2048-wide matrices, four a step, as ours.ts makes them."""
    pairs = [tuple(torch.randn(2, 2048, 2048, device=args.device)) for _ in range(4)]
    ended()
    for _ in range(args.steps):
        for a, b in pairs:
            a @ b
        ended()


torch.set_float32_matmul_precision("high" if args.tf32 else "highest")
torch.backends.cudnn.allow_tf32 = args.tf32
torch.set_num_threads(os.cpu_count() or 1)
{"train": train, "generate": generate, "peak": peak}[args.kind]()
print(json.dumps({"began": BEGAN, **({"ready": READY[0]} if READY else {}), "ends": ENDS, "losses": LOSSES, "threads": torch.get_num_threads()}))
sys.stdout.flush()
os._exit(0)  # tearing down gigabytes is not part of the comparison
