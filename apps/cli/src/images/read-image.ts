/** Photos as RGB bytes: PNG, JPEG and WebP, upright, on white. */
import { readFile, stat } from "node:fs/promises";
import { LikenessError } from "@likeness/engine/errors";
import type { Photo } from "@likeness/personalization";
import sharp, { type Sharp } from "sharp";

/** RGB bytes, row by row: (height, width, 3). */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
  /** Opacity, (height, width), of a picture that isn't opaque everywhere. */
  readonly alpha?: Uint8Array;
}

const MIN_SIDE = 16;
const MAX_PIXELS = 100e6;
const MAX_BYTES = 512e6;
const FORMATS = "a PNG, JPEG or WebP picture";

/**
 * A picture as it is meant to be seen: turned by its EXIF orientation, alpha flattened on white, in sRGB, 8 bits.
 * @throws LikenessError E_IMAGE if there is none, or if it is damaged, smaller than 16 pixels or beyond 100 megapixels
 */
export async function readImage(path: string): Promise<Picture> {
  const refuse = (found: string, next?: string, needed: string = FORMATS): never => {
    throw new LikenessError("E_IMAGE", { what: "picture", where: path, needed, found, ...(next && { next }) });
  };
  const info = await stat(path).catch(() => refuse("no such file", "Check the path."));
  if (!info.isFile()) refuse(info.isDirectory() ? "a folder" : "a special file");
  if (info.size === 0) refuse("an empty file");
  if (info.size > MAX_BYTES) refuse(`${info.size} bytes`, undefined, `at most ${MAX_BYTES} bytes`);
  const bytes = await readFile(path);
  const format = formatOf(bytes);
  if (!["png", "jpeg", "webp"].includes(format)) refuse(format, "Convert it first.");
  const source = sharp(bytes, { failOn: "truncated", limitInputPixels: false });
  const damaged = (error: Error): never =>
    refuse(`a damaged ${format} (${error.message.trim().split("\n").at(-1)})`, "Fetch or save it again.");
  const { width = 0, height = 0 } = await source.metadata().catch(damaged);
  if (Math.min(width, height) < MIN_SIDE) refuse(`${width}x${height}`, undefined, `at least ${MIN_SIDE} pixels a side`);
  if (width * height > MAX_PIXELS)
    refuse(`${width}x${height}`, "Make it smaller first.", `at most ${MAX_PIXELS / 1e6} megapixels`);
  const turned = source.autoOrient().toColourspace("srgb");
  const alpha = await alphaOf(turned.clone()).catch(damaged);
  const { data, info: raw } = await turned
    .flatten({ background: "#ffffff" })
    .raw({ depth: "uchar" })
    .toBuffer({ resolveWithObject: true })
    .catch(damaged);
  return { width: raw.width, height: raw.height, data: toRgb(data, raw.channels), ...(alpha && { alpha }) };
}

async function alphaOf(source: Sharp): Promise<Uint8Array | undefined> {
  const { hasAlpha } = await source.metadata();
  if (!hasAlpha) return undefined;
  const alpha = await source.extractChannel("alpha").raw({ depth: "uchar" }).toBuffer();
  return alpha.every((a) => a === 255) ? undefined : new Uint8Array(alpha);
}

/**
 * Where a photo's subject is, (height, width): the red of a picture of the photo's size, white on black, or the opacity of one that
 * isn't opaque; without a path the photo's own opacity, nothing if it is opaque.
 * @throws LikenessError E_IMAGE if the sizes differ
 */
export async function readMask(path: string | undefined, photo: Picture): Promise<Uint8Array | undefined> {
  if (path === undefined) return photo.alpha;
  const { width, height, data, alpha } = await readImage(path);
  if (width !== photo.width || height !== photo.height)
    throw new LikenessError("E_IMAGE", {
      what: "mask",
      where: path,
      needed: `the photo's size, ${photo.width}x${photo.height}`,
      found: `${width}x${height}`,
      next: "Crop and scale both in the same way.",
    });
  return alpha ?? first(data);
}

/** By the first bytes, whatever the name says. */
function formatOf(bytes: Buffer): string {
  const start = bytes.toString("latin1", 0, 16);
  if (start.startsWith("\x89PNG\r\n\x1a\n")) return "png";
  if (start.startsWith("\xff\xd8\xff")) return "jpeg";
  if (start.startsWith("RIFF") && start.slice(8, 12) === "WEBP") return "webp";
  if (start.startsWith("GIF8")) return "a GIF";
  if (start.slice(4, 8) === "ftyp")
    return /heic|heix|mif1/.test(start) ? "a HEIC picture" : "an AVIF picture or a film";
  if (/^(BM|II\*\0|MM\0\*)/.test(start)) return "a BMP or TIFF picture";
  return bytes.subarray(0, 512).includes(0) ? "something else" : "a text";
}

function toRgb(data: Uint8Array, channels: number): Uint8Array {
  if (channels === 3) return data;
  const pixels = data.length / channels;
  return Uint8Array.from(
    { length: pixels * 3 },
    (_, i) => data[Math.floor(i / 3) * channels + (channels < 3 ? 0 : i % 3)]!,
  );
}

const raw = ({ width, height, data }: Picture): Sharp => sharp(data, { raw: { width, height, channels: 3 } });

/** The picture at another size, each side stretched on its own: Lanczos, or whole blocks of pixels. */
export async function resize(
  picture: Picture,
  width: number,
  height: number,
  kernel: "lanczos3" | "nearest" = "lanczos3",
): Promise<Picture> {
  if (picture.width === width && picture.height === height) return picture;
  return { width, height, data: await raw(picture).resize(width, height, { fit: "fill", kernel }).raw().toBuffer() };
}

/** The largest square of the middle at n x n pixels: (n, n, 3) bytes. */
export async function squareCrop(picture: Picture, n: number): Promise<Uint8Array> {
  const { width, height } = picture;
  const side = Math.min(width, height);
  const left = Math.floor((width - side) / 2);
  const top = Math.floor((height - side) / 2);
  const square = { width: side, height: side, data: cut(picture, left, top, side) };
  return (await resize(square, n, n)).data;
}

/** The same square of a photo's mask: (n, n) bytes. */
export async function squareCropMask(mask: Uint8Array, { width, height }: Picture, n: number): Promise<Uint8Array> {
  return first(await squareCrop({ width, height, data: toRgb(mask, 1) }, n));
}

/** The square of the middle as what is personalized, with that of its mask if it has one. */
export async function squarePhoto(picture: Picture, n: number, mask: Uint8Array | undefined): Promise<Photo> {
  return {
    ...{ pixels: await squareCrop(picture, n), width: n, height: n },
    mask: mask && (await squareCropMask(mask, picture, n)),
  };
}

/** The first of three channels. */
const first = (data: Uint8Array): Uint8Array => Uint8Array.from({ length: data.length / 3 }, (_, i) => data[3 * i]!);

function cut({ width, data }: Picture, left: number, top: number, side: number): Uint8Array {
  const out = new Uint8Array(side * side * 3);
  for (let y = 0; y < side; y++) {
    const from = ((top + y) * width + left) * 3;
    out.set(data.subarray(from, from + side * 3), y * side * 3);
  }
  return out;
}
