"""What diffusers makes, one scheduler after the other, in one process: latents and picture as NAME.npz, times and memory as NAME.json.

    python reference.py MODEL OUT --size N --steps N --seed N --guidance G --prompt T --schedulers NAME...
"""

import argparse
import json
import os
import pathlib
import sys
import time

os.environ["TRANSFORMERS_VERBOSITY"] = os.environ["DIFFUSERS_VERBOSITY"] = "error"
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "bench"), str(ROOT / "fixtures/make")]

import diffusers  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from memory import status  # noqa: E402
from scheduler_classes import SCHEDULERS  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--size", type=int)
parser.add_argument("--steps", type=int)
parser.add_argument("--seed", type=int)
parser.add_argument("--guidance", type=float)
parser.add_argument("--prompt")
parser.add_argument("--schedulers", nargs="+")
args = parser.parse_args()

torch.set_num_threads(os.cpu_count() or 1)
began = time.perf_counter()
unused = {"safety_checker": None, "feature_extractor": None, "image_encoder": None}
pipe = diffusers.StableDiffusionPipeline.from_pretrained(args.model, dtype=torch.float32, **unused)
pipe.set_progress_bar_config(disable=True)
config = pipe.scheduler.config
loaded = time.perf_counter() - began
for name in args.schedulers:
    cls, changes = SCHEDULERS[name]
    pipe.scheduler = getattr(diffusers, cls).from_config(config, **changes)
    began = time.perf_counter()
    generator = torch.Generator("cpu").manual_seed(args.seed)
    shape = {"height": args.size, "width": args.size, "num_inference_steps": args.steps, "guidance_scale": args.guidance}
    latents = pipe(args.prompt, generator=generator, output_type="latent", **shape).images
    with torch.no_grad():
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    picture = np.asarray(pipe.image_processor.postprocess(decoded, output_type="pil")[0])
    seconds = time.perf_counter() - began
    np.savez(args.out / f"{name}.npz", latents=latents.numpy(), picture=picture)
    facts = {"seconds": seconds, "load_seconds": loaded, "memory": status(os.getpid()), "diffusers": diffusers.__version__, "torch": torch.__version__}
    (args.out / f"{name}.json").write_text(json.dumps(facts))
