/** ONNX Runtime sessions and resident variables of one process. */
import type * as Ort from "onnxruntime-node";
import type { Device } from "../onnx/builder.ts";
import { devices, onnxruntime } from "./onnxruntime.ts";
import { type Feed, RuntimeFailure } from "./types.ts";

export interface CompileRequest {
  readonly model: Uint8Array;
  readonly inputs: readonly { name: string; shape: readonly number[]; dtype: string }[];
  readonly variables: readonly { name: string; shape: readonly number[] }[];
  readonly weightRoot: string | undefined;
  /** Names of variables that outputs "update:NAME" replace. */
  readonly updates: readonly string[];
}

interface Loaded extends Omit<CompileRequest, "model"> {
  readonly session: Ort.InferenceSession;
}

export class Host {
  private readonly device: Device;
  private readonly threads: number;
  private readonly programs = new Map<number, Loaded>();
  private readonly variables = new Map<string, Ort.Tensor>();
  private nextId = 1;

  constructor(device: Device, threads: number) {
    this.device = device;
    this.threads = threads;
    const present = devices();
    if (!present.includes(device))
      throw new RuntimeFailure(
        "E_DEVICE",
        `device: needed one of ${present.join(", ")}, found "${device}". Run \`likeness doctor\` to see why.`,
      );
  }

  write(values: Readonly<Record<string, Float32Array>>, shapes: Readonly<Record<string, readonly number[]>>): void {
    for (const [name, data] of Object.entries(values)) {
      const shape = shapes[name] ?? [data.length];
      this.variables.set(name, new (onnxruntime().Tensor)("float32", data, shape));
    }
  }

  read(names: readonly string[]): Record<string, Float32Array> {
    return Object.fromEntries(names.map((n) => [n, this.variable(n).data as Float32Array]));
  }

  async compile({ model, ...rest }: CompileRequest): Promise<number> {
    // The optimizer is off: it would merge what was rematerialised on purpose. Memory patterns keep buffers too long.
    const session = await onnxruntime().InferenceSession.create(model, {
      executionProviders: [this.device],
      intraOpNumThreads: this.threads,
      graphOptimizationLevel: "disabled",
      enableMemPattern: false,
      logSeverityLevel: 3,
      ...(process.env.LIKENESS_PROFILE && { enableProfiling: true, profileFilePrefix: process.env.LIKENESS_PROFILE }),
      extra: {
        session: {
          disable_prepacking: "1",
          ...(rest.weightRoot !== undefined && { model_external_initializers_file_folder_path: rest.weightRoot }),
        },
      },
    });
    this.programs.set(this.nextId, { session, ...rest });
    return this.nextId++;
  }

  async run(id: number, feeds: Readonly<Record<string, Feed>>): Promise<Record<string, Float32Array | Int32Array>> {
    const program = this.programs.get(id);
    if (!program) throw new RuntimeFailure("E_CLOSED", "program: it was released.");
    const given: Record<string, Ort.Tensor> = {};
    for (const { name, shape, dtype } of program.inputs) given[name] = feedTensor(name, shape, dtype, feeds[name]);
    const strange = Object.keys(feeds).find((name) => !program.inputs.some((i) => i.name === name));
    if (strange)
      throw new RuntimeFailure(
        "E_FEED",
        `"${strange}": the program has no such input; it has ${program.inputs.map((i) => i.name).join(", ")}.`,
      );
    for (const { name } of program.variables) given[name] = this.variable(name);
    const results: Record<string, Ort.Tensor> = { ...(await program.session.run(given)) };
    for (const name of program.updates) {
      this.variables.set(name, results[`update:${name}`]!);
      delete results[`update:${name}`];
    }
    return Object.fromEntries(Object.entries(results).map(([n, t]) => [n, t.data as Float32Array]));
  }

  async release(id: number): Promise<void> {
    const session = this.programs.get(id)?.session;
    if (process.env.LIKENESS_PROFILE) session?.endProfiling();
    await session?.release();
    this.programs.delete(id);
  }

  private variable(name: string): Ort.Tensor {
    const found = this.variables.get(name);
    if (!found)
      throw new RuntimeFailure(
        "E_VARIABLE",
        `variable "${name}": needed a value, found none. Write it before the first run.`,
      );
    return found;
  }
}

const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array, bool: Uint8Array } as const;

function feedTensor(name: string, shape: readonly number[], dtype: string, feed: Feed | undefined): Ort.Tensor {
  const Kind = ARRAYS[dtype as keyof typeof ARRAYS];
  const length = shape.reduce((n, d) => n * d, 1);
  if (!(feed instanceof Kind) || feed.length !== length) {
    const found = feed ? `${feed.constructor.name} of ${feed.length}` : "nothing";
    throw new RuntimeFailure(
      "E_FEED",
      `input "${name}": needed ${Kind.name} of ${length} for shape (${shape.join(", ")}), found ${found}.`,
    );
  }
  return new (onnxruntime().Tensor)(dtype as "float32", feed as Float32Array, shape);
}
