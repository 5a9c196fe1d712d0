/** Files that would run code when opened. */
import { LikenessError } from "@likeness/engine";

/** @throws LikenessError E_PICKLE for the file names of pickles */
export function expectNoPickle(what: string, path: string): void {
  const end = /\.(pt|pth|bin|ckpt|pkl)$/i.exec(path)?.[0];
  if (end)
    throw new LikenessError("E_PICKLE", {
      what,
      where: path,
      needed: "a .safetensors file",
      found: `a pickle (${end})`,
      next: "A pickle can run any code when it is opened, so it isn't: convert it to .safetensors.",
    });
}
