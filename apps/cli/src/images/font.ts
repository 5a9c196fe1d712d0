/** A bitmap font of 5x7 pixels and a row for descenders, so that captions look the same on every machine. */

/** Rows from the top, five pixels each as one base-32 digit, leftmost pixel first; a missing eighth row is empty. */
const GLYPHS: Readonly<Record<string, string>> = {
  " ": "0000000",
  "!": "4444404",
  '"': "aa00000",
  "#": "aavavaa",
  $: "4fke5u4",
  "%": "op248j3",
  "&": "cik8lid",
  "'": "4400000",
  "(": "2488842",
  ")": "8422248",
  "*": "04lel40",
  "+": "044v440",
  ",": "00000448",
  "-": "000e000",
  ".": "0000004",
  "/": "1122448",
  0: "ehjlphe",
  1: "4c4444e",
  2: "eh1248v",
  3: "v2421he",
  4: "26aiv22",
  5: "vgu11he",
  6: "68guhhe",
  7: "v124888",
  8: "ehhehhe",
  9: "ehhf12c",
  ":": "0440440",
  ";": "04404408",
  "<": "248g842",
  "=": "00v0v00",
  ">": "8421248",
  "?": "eh12404",
  "@": "ehnlngf",
  A: "ehhvhhh",
  B: "uhhuhhu",
  C: "ehggghe",
  D: "uhhhhhu",
  E: "vggsggv",
  F: "vggsggg",
  G: "ehgnhhf",
  H: "hhhvhhh",
  I: "e44444e",
  J: "72222ic",
  K: "hikokih",
  L: "ggggggv",
  M: "hrllhhh",
  N: "hhpljhh",
  O: "ehhhhhe",
  P: "uhhuggg",
  Q: "ehhhlid",
  R: "uhhukih",
  S: "fgge11u",
  T: "v444444",
  U: "hhhhhhe",
  V: "hhhhha4",
  W: "hhhllla",
  X: "hha4ahh",
  Y: "hhha444",
  Z: "v1248gv",
  "[": "e88888e",
  "\\": "gg88442",
  "]": "e22222e",
  "^": "4ah0000",
  _: "000000v",
  "`": "8420000",
  a: "00e1fhf",
  b: "ggmphhu",
  c: "00egghe",
  d: "11djhhf",
  e: "00ehvge",
  f: "698s888",
  g: "00fhhf1e",
  h: "ggmphhh",
  i: "40c444e",
  j: "206222ic",
  k: "ggikoki",
  l: "c44444e",
  m: "00qllhh",
  n: "00mphhh",
  o: "00ehhhe",
  p: "00uhhugg",
  q: "00fhhf11",
  r: "00mpggg",
  s: "00fge1u",
  t: "88s8896",
  u: "00hhhjd",
  v: "00hhha4",
  w: "00hhlla",
  x: "00ha4ah",
  y: "00hhhf1e",
  z: "00v248v",
  "{": "2448442",
  "|": "4444444",
  "}": "8442448",
  "~": "008l200",
};

export const GLYPH_WIDTH: number = 6; // one pixel of space included
export const LINE_HEIGHT: number = 10;

/** Letters without their accents; what the font lacks becomes a question mark. */
const plain = (text: string): string =>
  [...text.normalize("NFD").replace(/\p{M}/gu, "")].map((c) => (Object.hasOwn(GLYPHS, c) ? c : "?")).join("");

/** Calls `dot(x, y)` for each pixel of a line of text, from (0, 0) at its top left. */
export function drawText(text: string, dot: (x: number, y: number) => void): void {
  for (const [i, c] of [...plain(text)].entries())
    for (const [y, digit] of [...GLYPHS[c]!].entries()) {
      const row = Number.parseInt(digit, 32);
      for (let x = 0; x < 5; x++) if (row & (16 >> x)) dot(i * GLYPH_WIDTH + x, y);
    }
}

/** Lines of at most `columns` characters, broken at spaces; what is beyond `rows` lines ends in dots. */
export function wrap(text: string, columns: number, rows: number): string[] {
  const lines: string[] = [];
  for (const word of plain(text).split(/\s+/).filter(Boolean)) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= columns) lines[lines.length - 1] = `${last} ${word}`;
    else for (let at = 0; at < word.length; at += columns) lines.push(word.slice(at, at + columns));
  }
  if (lines.length <= rows) return lines;
  const kept = lines.slice(0, rows);
  kept[rows - 1] = `${kept[rows - 1]!.slice(0, Math.max(0, columns - 3))}...`;
  return kept;
}
