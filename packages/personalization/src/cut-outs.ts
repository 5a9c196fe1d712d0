/** The subject of a photo with a mask, cut out and put on plain backgrounds that prompts can name. */

/** Colours that any model knows, far from each other first: RGB from 0 to 255. */
const BACKGROUNDS = {
  red: [214, 48, 49],
  white: [244, 244, 244],
  green: [70, 170, 82],
  black: [26, 26, 30],
  blue: [52, 110, 214],
  yellow: [248, 214, 72],
  gray: [150, 152, 156],
  purple: [134, 78, 190],
} as const;

/** As many as there are. */
export const MOST_CUT_OUTS: number = Object.keys(BACKGROUNDS).length;

export interface CutOut {
  /** (3, H, W) in [−1, 1]. */
  readonly planes: Float32Array;
  /** What a prompt says of it beside the subject: "on a red background". */
  readonly where: string;
}

/**
 * @param planes the photo, (3, H, W) in [−1, 1]
 * @param mask how much of each pixel is subject, of 255: (H, W)
 */
export function cutOuts(planes: Float32Array, mask: Uint8Array, count: number): CutOut[] {
  return Object.entries(BACKGROUNDS)
    .slice(0, count)
    .map(([name, rgb]) => ({
      planes: planes.map((x, i) => {
        const share = mask[i % mask.length]! / 255;
        return share * x + (1 - share) * (rgb[Math.floor(i / mask.length)]! / 127.5 - 1);
      }),
      where: `on a ${name} background`,
    }));
}
