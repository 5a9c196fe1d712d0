/** The noise of a batch: one generator per picture, as in diffusers with a list of torch.Generator("cpu"). */
import { torchRandn } from "@likeness/engine";

/** `count` standard normal values for all pictures, each picture's share in a row; each call goes on in every generator. */
export type Draw = (count: number) => Float32Array;

/** A picture's noise depends on its own seed alone, not on the batch. @throws SeedError */
export function drawsOf(seeds: readonly number[]): Draw {
  const generators = seeds.map((seed) => torchRandn(seed));
  return (count) => {
    const each = count / generators.length;
    const all = new Float32Array(count);
    for (const [i, generator] of generators.entries()) all.set(generator.normal(each), i * each);
    return all;
  };
}
