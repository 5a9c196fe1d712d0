/** Flags that several commands have. */

export const MODEL = {
  type: "string",
  hint: "DIR|FILE|ID",
  description: "base model: a diffusers folder, a .safetensors checkpoint, or ORG/NAME in the Hugging Face cache",
  required: true,
  aliases: ["m", "pretrained-model-name-or-path"],
} as const;

export const DEVICE = {
  type: "string",
  hint: "NAME",
  description: "execution provider; `likeness doctor` lists what is there",
  default: "cpu",
} as const;

export const SEED = {
  type: "integer",
  min: 0,
  max: 2 ** 32 - 1,
  description: "same seed, same result",
  aliases: ["s"],
} as const;

export const RESUME = {
  type: "string",
  hint: "latest",
  choices: ["latest"],
  description: "go on from the run's last checkpoint",
  aliases: ["resume-from-checkpoint"],
} as const;
