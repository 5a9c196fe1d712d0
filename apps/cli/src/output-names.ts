/** Numbers of pictures in a folder, going on from those that are there. */
import { readdirSync } from "node:fs";

/** One more than the highest number that a picture of this folder begins with; 1 in an empty folder. */
export function freeNumber(folder: string): number {
  const numbers = readdirSync(folder).map((name) => Number(/^(\d{5,})-.*\.png$/.exec(name)?.[1] ?? 0));
  return numbers.reduce((a, b) => Math.max(a, b), 0) + 1;
}
