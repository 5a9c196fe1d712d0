/** subject_mask/ of a model's folder: what finds the subject of a photo, if the model has it. */
import { existsSync, readdirSync, realpathSync } from "node:fs";
import { join } from "node:path";
import type { CLIPVisionConfig } from "../config/clip.ts";
import { readConfig } from "../config/parse.ts";
import { SubjectMaskConfig } from "../config/subject-mask.ts";
import { type Component, component, pathsOf } from "./component.ts";
import type { StableDiffusionModel } from "./model.ts";

export interface SubjectMask extends Component<SubjectMaskConfig> {
  /** The picture encoder that it was trained with, beside it. */
  readonly tower: Component<CLIPVisionConfig>;
}

/**
 * @returns undefined if there is none, or the model has another picture encoder than its folder's own
 * @throws ConfigError or SafetensorsError if it is damaged
 */
export function findSubjectMask({
  folder,
  imageEncoder: tower,
}: Pick<StableDiffusionModel, "folder" | "imageEncoder">): SubjectMask | undefined {
  if (!tower || !isOf(join(folder, "image_encoder"), tower)) return undefined;
  const at = join(folder, "subject_mask");
  const file = join(at, "model.safetensors");
  if (!existsSync(file)) return undefined;
  return { ...component(readConfig(SubjectMaskConfig, join(at, "config.json")), [file], undefined), tower };
}

/** Whether a component's files are those of a folder, to which links may lead, and in which they may be, as in the Hugging Face cache. */
function isOf(folder: string, part: Component<unknown>): boolean {
  const paths = existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
  const own = paths.filter((path) => existsSync(path)).map((path) => realpathSync(path));
  return pathsOf(part).every((path) => own.includes(path));
}
