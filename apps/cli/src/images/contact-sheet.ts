/** Pictures in a grid with captions: what was made, at a glance. */
import { drawText, GLYPH_WIDTH, LINE_HEIGHT, wrap } from "./font.ts";
import { type Picture, resize } from "./read-image.ts";

export interface Tile {
  readonly picture: Picture;
  readonly caption: string;
}

export interface SheetOptions {
  readonly columns?: number;
  /** Side of a picture on the sheet, in pixels. */
  readonly cell?: number;
  /** A line above all. */
  readonly title?: string;
}

const MARGIN = 12;
const CAPTION_ROWS = 3;
const INK = 34;

/** Pictures keep their proportions inside a cell; small ones are enlarged in whole blocks of pixels. */
export async function contactSheet(
  tiles: readonly Tile[],
  { columns = 4, cell = 192, title }: SheetOptions = {},
): Promise<Picture> {
  const across = Math.max(1, Math.min(columns, tiles.length));
  const down = Math.ceil(tiles.length / across);
  const header = title === undefined ? 0 : 2 * LINE_HEIGHT + MARGIN;
  const pitch = { x: cell + MARGIN, y: cell + 6 + CAPTION_ROWS * LINE_HEIGHT + MARGIN };
  const width = MARGIN + across * pitch.x;
  const height = MARGIN + header + down * pitch.y;
  const sheet: Picture = { width, height, data: new Uint8Array(width * height * 3).fill(255) };
  if (title !== undefined) {
    const [line = ""] = wrap(title, Math.floor((width - 2 * MARGIN) / (2 * GLYPH_WIDTH)), 1);
    write(sheet, line, MARGIN, MARGIN, 2);
  }
  for (const [i, { picture, caption }] of tiles.entries()) {
    const left = MARGIN + (i % across) * pitch.x;
    const top = MARGIN + header + Math.floor(i / across) * pitch.y;
    const fitted = await fit(picture, cell);
    paste(sheet, fitted, left + ((cell - fitted.width) >> 1), top + ((cell - fitted.height) >> 1));
    for (const [row, line] of wrap(caption, Math.floor(cell / GLYPH_WIDTH), CAPTION_ROWS).entries())
      write(sheet, line, left, top + cell + 6 + row * LINE_HEIGHT, 1);
  }
  return sheet;
}

async function fit(picture: Picture, cell: number): Promise<Picture> {
  const scale = cell / Math.max(picture.width, picture.height);
  const blocks = scale >= 1 ? Math.floor(scale) : scale;
  const side = (n: number): number => Math.max(1, Math.round(n * blocks));
  return resize(picture, side(picture.width), side(picture.height), scale >= 1 ? "nearest" : "lanczos3");
}

function paste(onto: Picture, { width, height, data }: Picture, left: number, top: number): void {
  for (let y = 0; y < height; y++)
    onto.data.set(data.subarray(y * width * 3, (y + 1) * width * 3), ((top + y) * onto.width + left) * 3);
}

function write({ width, data }: Picture, text: string, left: number, top: number, scale: number): void {
  drawText(text, (x, y) => {
    for (let row = 0; row < scale; row++) {
      const at = ((top + y * scale + row) * width + left + x * scale) * 3;
      data.fill(INK, at, at + 3 * scale);
    }
  });
}
