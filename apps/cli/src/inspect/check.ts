/** `likeness inspect --check`: whether all weights are numbers. */
import { badWeight } from "@likeness/diffusion";
import { badValues, LikenessError, type SafetensorsHeader } from "@likeness/engine";

/** @throws LikenessError E_WEIGHT_VALUE that names the first bad weight and counts the tensors with others */
export function expectNumbers(headers: readonly SafetensorsHeader[]): void {
  const bad = headers.flatMap((h) => [...badValues(h)].map((b) => ({ ...b, file: h.path })));
  const [first, ...more] = bad;
  if (!first) return;
  const { detail, code } = badWeight(first);
  const found = `${detail.found}${more.length ? `, and more in ${more.length} other tensor${more.length > 1 ? "s" : ""}` : ""}`;
  throw new LikenessError(code, { ...detail, found });
}
