/**
 * Every case of every op on a device beside the CPU, value and gradient, without a test runner: for a machine that has
 * nothing but Node. Prints what is over the tolerance and the largest error; exit code 1 if anything is over.
 *
 *     node --import tsx bench/gpu-check.ts [--device webgpu] [--tolerance 1e-4]
 */
import { parseArgs } from "node:util";
import { type Device, evaluate, startRuntime } from "../packages/engine/src/index.ts";
import { caseOutputs, cases } from "../packages/engine/src/ops/cases.ts";
import { relativeError } from "../packages/engine/src/testing/index.ts";

const { values } = parseArgs({
  options: { device: { type: "string", default: "webgpu" }, tolerance: { type: "string", default: "1e-4" } },
});
process.env.LIKENESS_NO_FALLBACK = "1"; // the runtime's process inherits it
const runtime = await startRuntime({ device: values.device as Device });
let [count, bad, worst] = [0, 0, 0];
for (const [op, list] of Object.entries(cases))
  for (const [i, c] of list.entries()) {
    const outputs = caseOutputs(c);
    count++;
    try {
      const cpu = await evaluate(outputs);
      const program = await runtime.compile({ outputs });
      const found = await program.run();
      await program.release();
      for (const key of Object.keys(outputs)) {
        const error = relativeError(found[key]!, cpu[key]!);
        worst = Math.max(worst, error);
        if (error <= Number(values.tolerance)) continue;
        bad++;
        console.log(`${op} ${i} ${key}: off by ${error.toExponential(1)}`);
      }
    } catch (error) {
      bad++;
      console.log(`${op} ${i}: ${(error as Error).message.split("\n")[0]}`);
    }
  }
console.log(
  `${count} cases on ${values.device}: largest error ${worst.toExponential(1)}, ${bad} over ${values.tolerance}`,
);
await runtime.close();
process.exitCode = bad ? 1 : 0;
