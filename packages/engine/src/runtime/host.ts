/** ONNX Runtime sessions and resident variables of one process. */
import type * as Ort from "onnxruntime-node";
import type { WeightRef } from "../core/leaves.ts";
import type { DType } from "../core/tensor.ts";
import type { Device } from "../onnx/builder.ts";
import { readWidened } from "../weights/read-at.ts";
import { GpuTransfer } from "./gpu-transfer.ts";
import { devices, onnxruntime } from "./onnxruntime.ts";
import { type Feed, RuntimeFailure } from "./types.ts";

export interface CompileRequest {
  readonly model: Uint8Array;
  readonly inputs: readonly { name: string; shape: readonly number[]; dtype: string }[];
  readonly variables: readonly { name: string; shape: readonly number[] }[];
  readonly outputs: readonly string[];
  readonly weightRoot: string | undefined;
  /** Weights that are inputs, as float32. */
  readonly wide: readonly { name: string; ref: WeightRef }[];
  /** Names of variables that outputs "update:NAME" replace. */
  readonly updates: readonly string[];
}

interface Loaded extends Omit<CompileRequest, "model" | "wide"> {
  readonly weights: Readonly<Record<string, Ort.Tensor>>;
  readonly session: Ort.InferenceSession;
}

interface Variable {
  readonly tensor: Ort.Tensor;
  /** The program whose run made it; undefined if it was written. */
  readonly maker?: number;
}

export class Host {
  private readonly device: Device;
  private readonly threads: number;
  private readonly programs = new Map<number, Loaded>();
  private readonly variables = new Map<string, Variable>();
  /** Set where variables stay on the device between runs. */
  private readonly gpu: GpuTransfer | undefined;
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
    if (device === "webgpu") this.gpu = new GpuTransfer();
  }

  /**
   * Dtypes of weights that have to be widened before they get here.
   * @throws RuntimeFailure if the provider is there but finds nothing to run on
   */
  async ready(): Promise<DType[]> {
    return this.gpu ? this.gpu.unreadable() : [];
  }

  async write(
    values: Readonly<Record<string, Float32Array>>,
    shapes: Readonly<Record<string, readonly number[]>>,
  ): Promise<void> {
    for (const [name, data] of Object.entries(values)) {
      const tensor = new (onnxruntime().Tensor)("float32", data, shapes[name] ?? [data.length]);
      this.replace(name, { tensor: this.gpu ? await this.gpu.toDevice(tensor) : tensor });
    }
  }

  async read(names: readonly string[]): Promise<Record<string, Float32Array>> {
    const values: Record<string, Float32Array> = {};
    for (const name of names) {
      const tensor = this.variable(name);
      values[name] = this.gpu ? await this.gpu.values(tensor) : (tensor.data as Float32Array);
    }
    return values;
  }

  async compile({ model, wide, ...rest }: CompileRequest): Promise<number> {
    // The optimizer is off: it would merge what was rematerialised on purpose. Memory patterns keep buffers too long.
    const session = await onnxruntime().InferenceSession.create(model, {
      executionProviders: [this.device],
      intraOpNumThreads: this.threads,
      graphOptimizationLevel: "disabled",
      enableMemPattern: false,
      logSeverityLevel: 3,
      ...(this.gpu && { preferredOutputLocation: updatesOnGpu(rest) }),
      ...(process.env.LIKENESS_PROFILE && { enableProfiling: true, profileFilePrefix: process.env.LIKENESS_PROFILE }),
      extra: {
        session: {
          disable_prepacking: "1",
          ...(this.device !== "cpu" && process.env.LIKENESS_NO_FALLBACK && { disable_cpu_ep_fallback: "1" }),
          ...(rest.weightRoot !== undefined && { model_external_initializers_file_folder_path: rest.weightRoot }),
        },
      },
    });
    const { Tensor } = onnxruntime();
    const tensors = wide.map(({ name, ref }) => [name, new Tensor("float32", readWidened(ref), ref.shape)] as const);
    this.programs.set(this.nextId, { session, weights: Object.fromEntries(tensors), ...rest });
    return this.nextId++;
  }

  async run(id: number, feeds: Readonly<Record<string, Feed>>): Promise<Record<string, Float32Array | Int32Array>> {
    const program = this.programs.get(id);
    if (!program) throw new RuntimeFailure("E_CLOSED", "program: it was released.");
    const given: Record<string, Ort.Tensor> = { ...program.weights };
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
      this.replace(name, { tensor: results[`update:${name}`]!, maker: id });
      delete results[`update:${name}`];
    }
    return Object.fromEntries(Object.entries(results).map(([n, t]) => [n, t.data as Float32Array]));
  }

  async release(id: number): Promise<void> {
    // memory of the device goes with the session that took it, also under tensors that are still in use
    if (this.gpu)
      for (const [name, { tensor, maker }] of this.variables)
        if (maker === id) this.replace(name, { tensor: await this.gpu.toDevice(tensor) });
    const session = this.programs.get(id)?.session;
    if (process.env.LIKENESS_PROFILE) session?.endProfiling();
    await session?.release();
    this.programs.delete(id);
  }

  /** Memory of the device is given back at once: the collector doesn't see how large it is. */
  private replace(name: string, value: Variable): void {
    if (this.gpu) this.variables.get(name)?.tensor.dispose();
    this.variables.set(name, value);
  }

  private variable(name: string): Ort.Tensor {
    const found = this.variables.get(name)?.tensor;
    if (!found)
      throw new RuntimeFailure(
        "E_VARIABLE",
        `variable "${name}": needed a value, found none. Write it before the first run.`,
      );
    return found;
  }
}

const updatesOnGpu = ({ outputs, updates }: Pick<CompileRequest, "outputs" | "updates">) => {
  const onGpu = new Set(updates.map((name) => `update:${name}`));
  return Object.fromEntries(outputs.map((name) => [name, onGpu.has(name) ? "gpu-buffer" : "cpu"] as const));
};

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
