export { type CounterRandom, counterRandom } from "./counter.ts";
export { mt19937, type Words } from "./mt19937.ts";
export { SeedError, type TorchRandom, torchRandn } from "./torch-randn.ts";
