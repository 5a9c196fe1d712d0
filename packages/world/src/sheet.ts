import sharp, { type OverlayOptions } from "sharp";

export interface Tile {
  /** (size, size, 3) uint8 */
  readonly pixels: Uint8Array;
  readonly title: string;
}

/** Writes pictures in a grid with their titles below, each enlarged to `cell` pixels, as a PNG. */
export async function writeSheet(
  file: string,
  tiles: readonly Tile[],
  columns: number = 8,
  cell: number = 128,
): Promise<void> {
  const text = 34;
  const rows = Math.ceil(tiles.length / columns);
  const [width, height] = [columns * (cell + 6) + 6, rows * (cell + text + 6) + 6];
  const layers: OverlayOptions[] = [];
  for (const [i, { pixels, title }] of tiles.entries()) {
    const side = Math.round(Math.sqrt(pixels.length / 3));
    const [left, top] = [6 + (i % columns) * (cell + 6), 6 + Math.floor(i / columns) * (cell + text + 6)];
    const image = sharp(pixels, { raw: { width: side, height: side, channels: 3 } });
    layers.push({ input: await image.resize(cell, cell, { kernel: "nearest" }).png().toBuffer(), left, top });
    layers.push({ input: Buffer.from(label(title, cell, text)), left, top: top + cell });
  }
  await sharp({ create: { width, height, channels: 3, background: "#ffffff" } })
    .composite(layers)
    .png()
    .toFile(file);
}

function label(title: string, width: number, height: number): string {
  const limit = Math.floor(width / 5.2);
  const lines: string[] = [""];
  for (const word of title.split(" ")) {
    const last = lines[lines.length - 1]!;
    if (last !== "" && last.length + word.length + 1 > limit) lines.push(word);
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
  }
  const escaped = (s: string): string => s.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const rows = lines.slice(0, 3).map((line, i) => `<text x="0" y="${10 + i * 11}">${escaped(line)}</text>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="10">${rows.join("")}</svg>`;
}
