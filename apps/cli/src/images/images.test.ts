import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp, { type Sharp } from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { contactSheet } from "./contact-sheet.ts";
import { drawText, wrap } from "./font.ts";
import { formatParameters } from "./parameters.ts";
import { insertText, readTexts } from "./png-text.ts";
import { type Picture, readImage, readMask, resize, squareCrop, squareCropMask } from "./read-image.ts";
import { encodePng, writePng } from "./write-png.ts";

const folder = mkdtempSync(join(tmpdir(), "likeness-images-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);

/** Noise that doesn't compress, so that a truncated file lacks data. */
const noise = (width: number, height: number, channels: 3 | 4 = 3): Sharp => {
  let state = 1;
  const data = Uint8Array.from(
    { length: width * height * channels },
    () => (state = (state * 48271) % 2147483647) & 255,
  );
  return sharp(data, { raw: { width, height, channels } });
};
const pixel = ({ data, width }: Picture, x: number, y: number): number[] => [
  ...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3),
];
const flat = (width: number, height: number, rgb: readonly number[]): Picture => ({
  width,
  height,
  data: Uint8Array.from({ length: width * height * 3 }, (_, i) => rgb[i % 3]!),
});

describe("readImage", () => {
  test("the pixels of a PNG, exactly", async () => {
    const { data, info } = await noise(20, 17).raw().toBuffer({ resolveWithObject: true });
    await noise(20, 17).png().toFile(at("a.png"));
    expect(await readImage(at("a.png"))).toEqual({ width: info.width, height: info.height, data });
  });

  test("EXIF orientation is applied", async () => {
    // red left, blue right, and "turn by 90 degrees": red on top
    const red = await sharp(flat(16, 32, [255, 0, 0]).data, { raw: { width: 16, height: 32, channels: 3 } })
      .png()
      .toBuffer();
    await sharp({ create: { width: 32, height: 32, channels: 3, background: "#0000ff" } })
      .composite([{ input: red, left: 0, top: 0 }])
      .withMetadata({ orientation: 6 })
      .jpeg({ quality: 100, chromaSubsampling: "4:4:4" })
      .toFile(at("turned.jpg"));
    const picture = await readImage(at("turned.jpg"));
    expect(pixel(picture, 16, 4)[0]).toBeGreaterThan(240);
    expect(pixel(picture, 16, 28)[2]).toBeGreaterThan(240);
  });

  test("alpha goes on white, grey and 16 bits to RGB, WebP as the others", async () => {
    await sharp({ create: { width: 16, height: 16, channels: 4, background: { r: 255, g: 0, b: 0, alpha: 0.5 } } })
      .png()
      .toFile(at("alpha.png"));
    const half = await readImage(at("alpha.png"));
    expect(pixel(half, 3, 3)).toEqual([255, 127, 127]);
    expect(half.alpha).toEqual(new Uint8Array(256).fill(128));
    await noise(16, 16).greyscale().toColourspace("b-w").png().toFile(at("grey.png"));
    const grey = await readImage(at("grey.png"));
    expect(grey.data).toHaveLength(16 * 16 * 3);
    expect(new Set(pixel(grey, 5, 5)).size).toBe(1);
    await noise(16, 16).toColourspace("rgb16").png().toFile(at("deep.png"));
    expect((await readImage(at("deep.png"))).data).toHaveLength(16 * 16 * 3);
    await noise(16, 16).webp({ lossless: true }).toFile(at("a.webp"));
    expect((await readImage(at("a.webp"))).data).toEqual(await noise(16, 16).raw().toBuffer());
  });

  test("a mask is another picture's lightness or opacity, or the photo's own opacity, cropped as the photo is", async () => {
    const left = (x: number) => (x < 8 ? 255 : 0);
    const grey = Uint8Array.from({ length: 24 * 16 }, (_, i) => left(i % 24));
    const raw = { raw: { width: 24, height: 16, channels: 1 as const } };
    const photo = flat(24, 16, [9, 9, 9]);
    await sharp(grey, raw).png().toFile(at("mask.png"));
    await sharp(photo.data, { raw: { width: 24, height: 16, channels: 3 } })
      .joinChannel(Buffer.from(grey), raw)
      .png()
      .toFile(at("cut-out.png"));
    const cutOut = await readImage(at("cut-out.png"));
    expect(await readMask(at("mask.png"), photo)).toEqual(grey);
    expect(await readMask(at("cut-out.png"), photo)).toEqual(Uint8Array.from(grey));
    expect(await readMask(undefined, cutOut)).toEqual(Uint8Array.from(grey));
    expect(await readMask(undefined, photo)).toBeUndefined();
    const square = await squareCropMask(grey, photo, 16);
    expect(square).toEqual(Uint8Array.from({ length: 256 }, (_, i) => left((i % 16) + 4)));
    await expect(readMask(at("mask.png"), flat(16, 16, [0, 0, 0]))).rejects.toThrow(
      /mask \(.*mask\.png\): needed the photo's size, 16x16, found 24x16\. Crop/,
    );
  });

  describe("refuses", () => {
    beforeAll(async () => {
      writeFileSync(at("text.png"), "this is no picture\n");
      writeFileSync(at("empty.jpg"), "");
      writeFileSync(at("a.gif"), "GIF89a............");
      writeFileSync(at("a.svg"), "<svg xmlns='http://www.w3.org/2000/svg' width='99' height='99'/>");
      for (const format of ["jpeg", "png", "webp"] as const) {
        const whole = await noise(64, 64).toFormat(format).toBuffer();
        writeFileSync(at(`half.${format}`), whole.subarray(0, whole.length >> 1));
        writeFileSync(at(`head.${format}`), whole.subarray(0, 20));
        writeFileSync(at(`nearly.${format}`), whole.subarray(0, whole.length - 200));
      }
      await noise(64, 8).png().toFile(at("small.png"));
      const wide = await sharp({ create: { width: 16, height: 16, channels: 3, background: "red" } })
        .png()
        .toBuffer();
      wide.writeUInt32BE(60000, 16); // a header that promises 3.6 gigapixels
      wide.writeUInt32BE(60000, 20);
      const { crc32 } = await import("node:zlib");
      wide.writeUInt32BE(crc32(wide.subarray(12, 29)), 29);
      writeFileSync(at("bomb.png"), wide);
    });
    test.each([
      ["nothing.png", "found no such file"],
      ["", "found a folder"],
      ["empty.jpg", "found an empty file"],
      ["text.png", "needed a PNG, JPEG or WebP picture, found a text"],
      ["a.svg", "found a text"],
      ["a.gif", "found a GIF"],
      ["small.png", "needed at least 16 pixels a side, found 64x8"],
      ["bomb.png", "needed at most 100 megapixels, found 60000x60000"],
      ...["half", "head", "nearly"].flatMap((n) =>
        ["jpeg", "png", "webp"].map((f) => [`${n}.${f}`, `found a damaged ${f}`]),
      ),
    ])("%s", async (name, text) => {
      const error = await readImage(at(name!)).then(
        () => undefined,
        (e: Error) => e,
      );
      expect(error?.message).toContain(text);
      expect(error?.message).toMatch(/^picture \(.*\): needed .*\[E_IMAGE\]$/);
    });
  });
});

describe("squareCrop", () => {
  test("takes the middle", async () => {
    const wide = flat(40, 20, [0, 0, 0]);
    for (let y = 0; y < 20; y++) wide.data.fill(200, (y * 40 + 10) * 3, (y * 40 + 30) * 3);
    expect(new Set(await squareCrop(wide, 20))).toEqual(new Set([200]));
    expect(new Set(await squareCrop(wide, 8))).toEqual(new Set([200]));
  });

  test("keeps the mean when it shrinks", async () => {
    const { data } = await noise(64, 64).raw().toBuffer({ resolveWithObject: true });
    const small = await squareCrop({ width: 64, height: 64, data }, 16);
    const mean = (x: Uint8Array): number => x.reduce((a, b) => a + b, 0) / x.length;
    expect(small).toHaveLength(16 * 16 * 3);
    expect(Math.abs(mean(small) - mean(data))).toBeLessThan(1.5);
  });
});

describe("PNG with its settings", () => {
  const settings = { Steps: 20, Sampler: "DDIM", "CFG scale": 7.5, Seed: 1, Size: "64x64", Model: "a, b" };
  const text = formatParameters({ prompt: "a <S*> dog", negativePrompt: "blurry", settings });

  test("as A1111 writes them", () => {
    expect(text).toBe(
      'a <S*> dog\nNegative prompt: blurry\nSteps: 20, Sampler: DDIM, CFG scale: 7.5, Seed: 1, Size: 64x64, Model: "a, b"',
    );
    expect(formatParameters({ prompt: "x", negativePrompt: "", settings: { Steps: 1 } })).toBe("x\nSteps: 1");
  });

  test.each([
    ["Latin-1", text],
    ["umlauts", "ein süßer Fuchs"],
    ["others", "лиса 狐 🦊\nSteps: 1"],
  ])("read back: %s", async (_name, parameters) => {
    const picture = flat(9, 7, [1, 2, 3]);
    await writePng(at("out.png"), picture, parameters);
    const bytes = readFileSync(at("out.png"));
    expect(readTexts(bytes)).toEqual({ parameters });
    const { data, info } = await sharp(bytes, { failOn: "warning" }).raw().toBuffer({ resolveWithObject: true });
    expect([info.width, info.height, info.channels]).toEqual([9, 7, 3]);
    expect(new Uint8Array(data)).toEqual(picture.data);
    expect(readdirSync(folder).filter((f) => f.endsWith(".tmp"))).toEqual([]);
  });

  test("which chunk: tEXt for Latin-1, iTXt for the rest; libpng reads both", async () => {
    const png = await encodePng(flat(4, 4, [0, 0, 0]));
    expect(insertText(png, "parameters", "süß").includes("tEXtparameters\0")).toBe(true);
    expect(insertText(png, "parameters", "狐").includes("iTXtparameters\0")).toBe(true);
    const { comments } = await sharp(insertText(png, "parameters", "fox")).metadata();
    expect(comments).toEqual([{ keyword: "parameters", text: "fox" }]);
  });

  test("the same pixels give the same bytes", async () => {
    const { data } = await noise(32, 32).raw().toBuffer({ resolveWithObject: true });
    const one = await encodePng({ width: 32, height: 32, data }, "p");
    expect(one.equals(await encodePng({ width: 32, height: 32, data }, "p"))).toBe(true);
  });
});

describe("contact sheet", () => {
  const draw = (text: string): string => {
    const rows = Array.from({ length: 8 }, () => Array<string>(text.length * 6).fill("."));
    drawText(text, (x, y) => {
      rows[y]![x] = "#";
    });
    return rows
      .map((r) => r.join("").replace(/\.+$/, ""))
      .join("\n")
      .trimEnd();
  };

  test("letters", () => {
    expect(draw("Ag")).toBe(
      [".###", "#...#", "#...#..####", "#####.#...#", "#...#.#...#", "#...#..####", "#...#.....#", ".......###"].join(
        "\n",
      ),
    );
    expect(draw("é")).toBe(draw("e"));
    expect(draw("狐")).toBe(draw("?"));
  });

  test("every printable character has a glyph of its own", () => {
    const all = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i));
    expect(new Set(all.map(draw)).size).toBe(94);
  });

  test("lines break at spaces, and long texts end in dots", () => {
    expect(wrap("a photo of a duck", 8, 3)).toEqual(["a photo", "of a", "duck"]);
    expect(wrap("abcdefghij", 4, 3)).toEqual(["abcd", "efgh", "ij"]);
    expect(wrap("one two three four", 5, 2)).toEqual(["one", "tw..."]);
  });

  test("pictures stand in their cells, captions below", async () => {
    const red = flat(64, 64, [255, 0, 0]);
    const blue = flat(200, 100, [0, 0, 255]);
    const tiles = [red, blue, red].map((picture, i) => ({ picture, caption: `tile ${i}` }));
    const sheet = await contactSheet(tiles, { columns: 2, cell: 128, title: "Sheet" });
    expect([sheet.width, sheet.height]).toEqual([12 + 2 * 140, 12 + 32 + 2 * (128 + 6 + 30 + 12)]);
    expect(pixel(sheet, 12, 44)).toEqual([255, 0, 0]);
    expect(pixel(sheet, 139, 171)).toEqual([255, 0, 0]);
    expect(pixel(sheet, 140, 171)).toEqual([255, 255, 255]);
    expect(pixel(sheet, 152, 44)).toEqual([255, 255, 255]); // the second is wide
    expect(pixel(sheet, 152, 108)).toEqual([0, 0, 255]);
    const caption = sheet.data.subarray(178 * sheet.width * 3, 186 * sheet.width * 3);
    expect(caption.includes(34)).toBe(true);
  });

  test("resize in whole blocks", async () => {
    const two: Picture = { width: 2, height: 1, data: Uint8Array.of(1, 1, 1, 9, 9, 9) };
    expect([...(await resize(two, 4, 1, "nearest")).data]).toEqual([1, 1, 1, 1, 1, 1, 9, 9, 9, 9, 9, 9]);
  });
});
