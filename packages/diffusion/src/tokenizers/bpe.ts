/** Byte-pair encoding with CLIP's end-of-word mark. */

export const END_OF_WORD = "</w>";

/** Rank of each merge "left right", 0 first. */
export type MergeRanks = ReadonlyMap<string, number>;

/** A word in byte symbols → its first pieces: one a symbol, the last with the mark. */
export function firstPieces(symbols: string): string[] {
  const pieces = Array.from(symbols);
  if (pieces.length > 0) pieces[pieces.length - 1] += END_OF_WORD;
  return pieces;
}

/** Merges the pair of lowest rank, leftmost first, until none is left. */
export function mergePieces(first: readonly string[], ranks: MergeRanks): string[] {
  const pieces = [...first];
  const rankAt = (i: number): number => ranks.get(`${pieces[i]} ${pieces[i + 1]}`) ?? Number.POSITIVE_INFINITY;
  // rank of the pair (i, i + 1); kept beside the pieces, so that a merge looks up two pairs only
  const rank = pieces.slice(1).map((_, i) => rankAt(i));
  for (;;) {
    let best = 0;
    for (let i = 1; i < rank.length; i++) if (rank[i]! < rank[best]!) best = i;
    if (rank.length === 0 || rank[best] === Number.POSITIVE_INFINITY) return pieces;
    pieces.splice(best, 2, pieces[best]! + pieces[best + 1]!);
    rank.splice(best, 1);
    if (best > 0) rank[best - 1] = rankAt(best - 1);
    if (best < rank.length) rank[best] = rankAt(best);
  }
}
