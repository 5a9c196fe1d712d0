/** Files that would run code when opened. */
import { LikenessError } from "@likeness/engine";
import { PICKLE, PICKLE_REASON } from "../loading/weight-files.ts";

/** @throws LikenessError E_PICKLE for the file names of pickles */
export function expectNoPickle(what: string, path: string): void {
  if (PICKLE.test(path))
    throw new LikenessError("E_PICKLE", {
      what,
      where: path,
      needed: "a .safetensors file",
      found: "a pickle",
      next: PICKLE_REASON.replace("the model's .safetensors files", "a .safetensors copy"),
    });
}
