/** The word that was probably meant. */

/** The nearest of some words, or undefined if none is near: at most a third of the letters differ. */
export function nearest(word: string, words: readonly string[]): string | undefined {
  const ranked = words.map((w) => [distance(word, w), w] as const).sort((a, b) => a[0] - b[0]);
  const [best] = ranked;
  if (!best || word.length < 2) return undefined;
  return best[0] <= Math.max(1, Math.max(word.length, best[1].length) / 3)
    ? best[1]
    : words.find((w) => w.startsWith(word));
}

/** Levenshtein's distance, two neighbours in exchange counted once. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const changed = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, changed, swapped ? before[j - 2]! + 1 : changed));
    }
    [before, row] = [row, next];
  }
  return row[b.length]!;
}
