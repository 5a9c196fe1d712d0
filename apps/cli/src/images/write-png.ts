/** Pictures as PNG files, with the settings that made them. */
import { atomicWrite } from "@likeness/engine";
import sharp from "sharp";
import { insertText } from "./png-text.ts";
import type { Picture } from "./read-image.ts";

/** A PNG file; `parameters` is the text that A1111 and others show and read back. */
export async function encodePng({ width, height, data }: Picture, parameters?: string): Promise<Buffer> {
  const png = await sharp(data, { raw: { width, height, channels: 3 } })
    .png({ compressionLevel: 9 })
    .toBuffer();
  return parameters === undefined ? png : insertText(png, "parameters", parameters);
}

/** Writes a PNG file, whole or not at all. */
export async function writePng(path: string, picture: Picture, parameters?: string): Promise<void> {
  atomicWrite(path, [await encodePng(picture, parameters)]);
}
