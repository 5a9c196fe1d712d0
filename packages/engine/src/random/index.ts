export { type CounterRandom, counterRandom } from "./counter.ts";
