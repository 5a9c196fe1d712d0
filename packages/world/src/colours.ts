import type { Rgb } from "./canvas.ts";

/** Plain backgrounds. */
export const COLOURS: Readonly<Record<string, Rgb>> = {
  red: [214, 48, 49],
  orange: [240, 140, 40],
  yellow: [248, 214, 72],
  green: [70, 170, 82],
  blue: [52, 110, 214],
  purple: [134, 78, 190],
  pink: [246, 160, 196],
  brown: [132, 90, 58],
  black: [26, 26, 30],
  white: [244, 244, 244],
  gray: [150, 152, 156],
  turquoise: [64, 196, 190],
};
