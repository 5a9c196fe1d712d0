import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import sharp from "sharp";
import { type Hand, type Subject, subjects } from "./subjects.ts";

/** One subject in one hand: trimmed, 8-bit RGBA with premultiplied alpha, row by row. */
export interface Sprite {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8Array;
}

/** Pixels on the longer side of a cached sprite. */
export const SPRITE_SIZE = 96;

const require = createRequire(import.meta.url);
let notoIcons: Record<string, { body: string; width?: number; height?: number }> | undefined;

/**
 * Draws one subject in one hand.
 * @param size pixels on the longer side of the result
 * @throws RangeError if the subject has no art in that hand
 */
export async function rasterize(subject: Subject, hand: Hand, size: number = SPRITE_SIZE): Promise<Sprite> {
  const art = subject.art[hand];
  if (art === undefined)
    throw new RangeError(`"${subject.name}" is not drawn by ${hand}; it is by ${subject.hands.join(", ")}`);
  const side = Math.max(256, size * 2);
  const source = hand === "fluent-3d" ? readFileSync(art) : Buffer.from(svgOf(hand, art, side));
  const { data, info } = await sharp(source).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  return shrink(data, info.width, info.height, size);
}

function svgOf(hand: Hand, art: string, side: number): string {
  if (hand !== "noto") return readFileSync(art, "utf8").replace("<svg ", `<svg width="${side}" height="${side}" `);
  notoIcons ??= (require("@iconify-json/noto/icons.json") as { icons: NonNullable<typeof notoIcons> }).icons;
  const icon = notoIcons[art];
  if (!icon) throw new RangeError(`the Noto set has no icon "${art}"`);
  const { width = 128, height = 128, body } = icon;
  const open = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"`;
  return `${open} width="${side}" height="${side}" viewBox="0 0 ${width} ${height}">${body}</svg>`;
}

/** Trims straight RGBA to its content and averages it down to `size` pixels on the longer side, premultiplied. */
function shrink(data: Uint8Array, width: number, height: number, size: number): Sprite {
  let [x0, y0, x1, y1] = [width, height, -1, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[(y * width + x) * 4 + 3]! < 24) continue;
      x0 = Math.min(x0, x);
      x1 = Math.max(x1, x);
      y0 = Math.min(y0, y);
      y1 = Math.max(y1, y);
    }
  }
  if (x1 < 0) throw new RangeError("the art is empty");
  const [w, h] = [x1 - x0 + 1, y1 - y0 + 1];
  const scale = Math.max(w, h) / size;
  const [outW, outH] = [Math.max(1, Math.round(w / scale)), Math.max(1, Math.round(h / scale))];
  const rgba = new Uint8Array(outW * outH * 4);
  for (let oy = 0; oy < outH; oy++) {
    for (let ox = 0; ox < outW; ox++) {
      const sum = [0, 0, 0, 0];
      let area = 0;
      const [fx0, fx1] = [x0 + (ox * w) / outW, x0 + ((ox + 1) * w) / outW];
      const [fy0, fy1] = [y0 + (oy * h) / outH, y0 + ((oy + 1) * h) / outH];
      for (let y = Math.floor(fy0); y < fy1; y++) {
        const wy = Math.min(y + 1, fy1) - Math.max(y, fy0);
        for (let x = Math.floor(fx0); x < fx1; x++) {
          const wt = wy * (Math.min(x + 1, fx1) - Math.max(x, fx0));
          const i = (y * width + x) * 4;
          const a = (data[i + 3]! / 255) * wt;
          area += wt;
          sum[0]! += data[i]! * a;
          sum[1]! += data[i + 1]! * a;
          sum[2]! += data[i + 2]! * a;
          sum[3]! += a * 255;
        }
      }
      for (let c = 0; c < 4; c++) rgba[(oy * outW + ox) * 4 + c] = Math.round(sum[c]! / area);
    }
  }
  return { width: outW, height: outH, rgba };
}

/** All sprites by "hexcode/hand". */
export class Sprites {
  readonly #sprites: ReadonlyMap<string, Sprite>;

  constructor(sprites: ReadonlyMap<string, Sprite>) {
    this.#sprites = sprites;
  }

  /** @throws RangeError if that subject was not rasterised in that hand */
  get(hexcode: string, hand: Hand): Sprite {
    const sprite = this.#sprites.get(`${hexcode}/${hand}`);
    if (!sprite) throw new RangeError(`no sprite ${hexcode}/${hand}`);
    return sprite;
  }
}

/** Rasterises the given subjects in all their hands. */
export async function drawSprites(
  list: readonly Subject[],
  onSprite?: (done: number, total: number) => void,
): Promise<Sprites> {
  const jobs = list.flatMap((subject) => subject.hands.map((hand) => ({ subject, hand })));
  const sprites = new Map<string, Sprite>();
  for (const [i, { subject, hand }] of jobs.entries()) {
    sprites.set(`${subject.hexcode}/${hand}`, await rasterize(subject, hand));
    onSprite?.(i + 1, jobs.length);
  }
  return new Sprites(sprites);
}

/** All subjects' sprites, read from one cache file, which is written at the first call (about a minute). */
export async function openSprites(cache: string, onSprite?: (done: number, total: number) => void): Promise<Sprites> {
  const list = subjects();
  const keys = list.flatMap((s) => s.hands.map((h) => `${s.hexcode}/${h}`));
  const stamp = createHash("sha256").update(`1 ${SPRITE_SIZE} ${sharp.versions.vips} ${keys.join()}`).digest();
  if (existsSync(cache)) {
    const bytes = readFileSync(cache);
    if (bytes.subarray(0, 32).equals(stamp)) return unpack(bytes, keys);
  }
  const drawn = await drawSprites(list, onSprite);
  const chunks: Uint8Array[] = [stamp];
  for (const s of list) {
    for (const hand of s.hands) {
      const { width, height, rgba } = drawn.get(s.hexcode, hand);
      chunks.push(Uint8Array.of(width, height), rgba);
    }
  }
  mkdirSync(dirname(cache), { recursive: true });
  writeFileSync(`${cache}.tmp`, Buffer.concat(chunks));
  renameSync(`${cache}.tmp`, cache);
  return drawn;
}

function unpack(bytes: Uint8Array, keys: readonly string[]): Sprites {
  const sprites = new Map<string, Sprite>();
  let at = 32;
  for (const key of keys) {
    const [width, height] = [bytes[at]!, bytes[at + 1]!];
    const end = at + 2 + width * height * 4;
    sprites.set(key, { width, height, rgba: bytes.subarray(at + 2, end) });
    at = end;
  }
  return new Sprites(sprites);
}
