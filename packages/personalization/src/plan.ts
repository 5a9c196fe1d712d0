/** What a personalization will take, told before it begins, and the way of tuning that fits into the memory there is. */
import type { StableDiffusionModel } from "@likeness/diffusion";
import { type Cost, counterRandom, matmul, type Runtime, sum, variable } from "@likeness/engine";
import { type PictureKind, type TuningOptions, tuningCost } from "./tuning.ts";

export interface PersonalizePlan {
  /** Peak resident memory of the process that computes, mapped weight files included. */
  readonly bytes: number;
  readonly flops: number;
  /** Of the whole job on this machine; undefined if it is too short to be worth measuring the machine. */
  readonly seconds: number | undefined;
  /** What the backward pass computes again instead of keeping (TuningOptions). */
  readonly recompute: number | undefined;
  /** Whether `bytes` are there. */
  readonly fits: boolean;
}

/** Ways of tuning, each with less memory and more work than the one before. */
const RECOMPUTE = [undefined, 200, 800, Number.POSITIVE_INFINITY] as const;

/** The process itself and the library in it, with nothing loaded. */
const BASE_BYTES = 250e6;

/** What ONNX Runtime holds for the results that are live at a time, by measurement (docs/decisions/0007-shapes-unknown.md). */
const HELD = 1.1;

/** Below this it isn't worth telling. */
const SHORT_FLOPS = 2e12;

/** The first way of tuning whose memory is no more than `available`, or the one that takes least. */
export async function planPersonalization(
  runtime: Runtime,
  model: StableDiffusionModel,
  before: readonly Cost[],
  pictures: PictureKind,
  options: Omit<TuningOptions, "hardTokenId" | "seed">,
  available: number,
): Promise<PersonalizePlan> {
  const peak = (costs: readonly Cost[]): number =>
    BASE_BYTES + Math.max(0, ...costs.map((c) => HELD * c.liveBytes + c.weightBytes));
  const ways = options.recompute === undefined ? RECOMPUTE : [options.recompute];
  let plan: (Omit<PersonalizePlan, "seconds"> & Pick<Cost, "int8Flops">) | undefined;
  for (const recompute of ways) {
    const tuning = options.steps > 0 ? tuningCost(model, pictures, { ...options, recompute }) : undefined;
    const bytes = peak([...before, ...(tuning ? [tuning.part] : [])]);
    const total = (of: (cost: Cost) => number): number =>
      before.reduce((n, c) => n + of(c), 0) + (tuning ? options.steps * tuning.parts * of(tuning.part) : 0);
    const [flops, int8Flops] = [total((c) => c.flops), total((c) => c.int8Flops)];
    plan = { bytes, flops, int8Flops, recompute, fits: bytes <= available };
    if (plan.fits) break;
  }
  const { int8Flops, ...told } = plan!;
  const { flops } = told;
  if (flops < SHORT_FLOPS) return { ...told, seconds: undefined };
  const rate = SHARE_OF_PRODUCTS * (await productRate(runtime));
  return { ...told, seconds: START_SECONDS + (flops - int8Flops + int8Flops / INT8_SPEED) / rate };
}

/** What large models reach as a whole of the FLOP/s of matrix products (docs/results/sd15.md). */
const SHARE_OF_PRODUCTS = 0.8;

/** To make and load the graphs of a large model, of some 45,000 nodes. */
const START_SECONDS = 25;

/** How much faster products in 8 bits are, with all that turns numbers into bytes and back (docs/decisions/0009-int8.md). */
const INT8_SPEED = 2;

/** FLOP/s of large matrix products, the median of some: the fastest is a burst that the machine doesn't keep up. */
async function productRate(runtime: Runtime): Promise<number> {
  const n = 2048;
  const random = counterRandom(0, "plan");
  const names = ["plan.a", "plan.b"];
  for (const name of names) await runtime.write({ [name]: random.normal(n * n) }, { [name]: [n, n] });
  const [a, b] = names.map((name) => variable(name, [n, n]));
  const program = await runtime.compile({ outputs: { y: sum(matmul(a!, b!)) } });
  const seconds: number[] = [];
  for (let i = 0; i < 7; i++) {
    const since = performance.now();
    await program.run();
    seconds.push((performance.now() - since) / 1000);
  }
  await program.release();
  return (2 * n ** 3) / seconds.sort((a, b) => a - b)[seconds.length >> 1]!;
}
