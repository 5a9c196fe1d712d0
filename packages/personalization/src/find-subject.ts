/** Where the subject of a photo is, if nobody says: what stands out from a plain background, else what the model's subject mask sees. */
import { expectFinite, findSubjectMask, type StableDiffusionModel, subjectMask } from "@likeness/diffusion";
import { input, type Runtime, resizeBilinear, sigmoid, unsqueeze } from "@likeness/engine";
import { type Photo, photoPlanes } from "./photo.ts";
import { coversSome, plainBackgroundMask } from "./plain-background.ts";

export interface FoundSubject {
  /** As `Photo.mask`. */
  readonly mask: Uint8Array;
  readonly by: "plain background" | "subject mask";
}

/**
 * @returns undefined if the background isn't plain and the model has no subject_mask/, or sees nearly nothing or nearly everything
 * @throws LikenessError for a photo of another size than the model's
 */
export async function findSubject(
  runtime: Runtime,
  model: StableDiffusionModel,
  photo: Photo,
  signal?: AbortSignal,
): Promise<FoundSubject | undefined> {
  const plain = plainBackgroundMask(photo);
  if (plain) return { mask: plain, by: "plain background" };
  const mask = await seenSubject(runtime, model, photo, signal);
  return mask && { mask, by: "subject mask" };
}

/** What the model's subject mask sees; undefined if it has none, or that is nearly nothing or nearly everything. */
export async function seenSubject(
  runtime: Runtime,
  model: StableDiffusionModel,
  photo: Photo,
  signal?: AbortSignal,
): Promise<Uint8Array | undefined> {
  const head = findSubjectMask(model);
  if (!head) return undefined;
  const { width, height } = photo;
  const side = head.tower.config.image_size;
  const pixels = input("pixels", [1, 3, height, width]);
  const logits = subjectMask(head.weights, head.config, head.tower, resizeBilinear(pixels, [side, side]));
  const { shares } = await runtime.evaluate(
    { shares: resizeBilinear(unsqueeze(sigmoid(logits), [1]), [height, width]) },
    { pixels: photoPlanes(photo, model) },
    { signal },
  );
  expectFinite(shares!, "the subject mask", model);
  // what is rather one or the other is that: a background that shines through would be learnt
  const mask = Uint8Array.from(shares as Float32Array, (p) => 255 * Math.min(1, Math.max(0, 2 * p - 0.5)));
  return coversSome(mask) ? mask : undefined;
}
