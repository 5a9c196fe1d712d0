/** The commands by name, each loaded when it is called. */
import type { Command } from "../args/command.ts";

export interface CommandEntry {
  readonly summary: string;
  load(): Promise<{ readonly default: Command }>;
}

export const COMMANDS: Readonly<Record<string, CommandEntry>> = {
  personalize: {
    summary: "learn a concept from one photo",
    load: () => import("./personalize.ts"),
  },
  generate: {
    summary: "make pictures from a prompt, with or without a concept",
    load: () => import("./generate.ts"),
  },
  pull: {
    summary: "fetch a base model from the Hugging Face hub",
    load: () => import("./pull.ts"),
  },
  export: {
    summary: "write a concept for diffusers, kohya, A1111 or cloneofsimo",
    load: () => import("./export.ts"),
  },
  train: {
    summary: "train a part of a base model",
    load: () => import("./train.ts"),
  },
  pretrain: {
    summary: "pre-train the tuning-encoder of a base model",
    load: () => import("./pretrain.ts"),
  },
  evaluate: {
    summary: "judge a model's personalization on subjects that it has never seen",
    load: () => import("./evaluate.ts"),
  },
  inspect: {
    summary: "say what a .safetensors file or a model folder is",
    load: () => import("./inspect.ts"),
  },
  doctor: {
    summary: "check this machine and this installation",
    load: () => import("./doctor.ts"),
  },
};
