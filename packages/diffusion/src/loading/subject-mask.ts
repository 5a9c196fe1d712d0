/** subject_mask/ of a model's folder: what finds the subject of a photo, if the model has it. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readConfig } from "../config/parse.ts";
import { SubjectMaskConfig } from "../config/subject-mask.ts";
import { type Component, component } from "./component.ts";
import type { StableDiffusionModel } from "./model.ts";

/** @throws ConfigError or SafetensorsError if it is damaged */
export function findSubjectMask({
  folder,
}: Pick<StableDiffusionModel, "folder">): Component<SubjectMaskConfig> | undefined {
  const at = join(folder, "subject_mask");
  const file = join(at, "model.safetensors");
  return existsSync(file)
    ? component(readConfig(SubjectMaskConfig, join(at, "config.json")), [file], undefined)
    : undefined;
}
