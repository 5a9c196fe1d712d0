/** The files of a model on the fake hub: what a repository of Stable Diffusion has, needed here or not. */
const noise = (seed: number, bytes: number): Buffer => {
  const out = Buffer.alloc(bytes);
  for (let i = 0, x = seed; i < bytes; i++) out[i] = (x = Math.imul(x, 1103515245) + 12345) >>> 16;
  return out;
};

export const hubModel: Readonly<Record<string, Buffer | string>> = {
  ".gitattributes": "*.safetensors filter=lfs",
  "README.md": "# A model",
  "v1-5-pruned.ckpt": "pickle",
  "v1-5-pruned.safetensors": noise(9, 5000),
  "model_index.json": '{"_class_name": "StableDiffusionPipeline"}',
  "feature_extractor/preprocessor_config.json": "{}",
  "safety_checker/config.json": "{}",
  "safety_checker/model.safetensors": noise(1, 3000),
  "scheduler/scheduler_config.json": '{"_class_name": "PNDMScheduler"}',
  "text_encoder/config.json": '{"a": 1}',
  "text_encoder/model.safetensors": noise(2, 100_000),
  "text_encoder/model.fp16.safetensors": noise(3, 50_000),
  "text_encoder/pytorch_model.bin": noise(4, 1000),
  "tokenizer/merges.txt": "#version: 0.2\na b",
  "tokenizer/vocab.json": '{"a": 0}',
  "tokenizer/special_tokens_map.json": "{}",
  "tokenizer/tokenizer_config.json": "{}",
  "unet/config.json": '{"b": 2}',
  "unet/diffusion_pytorch_model.safetensors": noise(5, 300_000),
  "unet/diffusion_pytorch_model.fp16.safetensors": noise(6, 150_000),
  "unet/diffusion_pytorch_model.non_ema.safetensors": noise(7, 300_000),
  "unet/diffusion_pytorch_model.bin": noise(8, 1000),
  "vae/config.json": '{"b": 2}', // the same content as unet/config.json
  "vae/diffusion_pytorch_model.safetensors": noise(10, 70_000),
};
