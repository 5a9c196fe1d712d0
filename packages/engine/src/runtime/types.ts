/** What a runtime is, whether its sessions live in this process or in a child. */

import type { Tensor } from "../core/tensor.ts";
import type { Device } from "../onnx/builder.ts";

export type Feed = Float32Array | Int32Array | Uint8Array;
export type Feeds = Readonly<Record<string, Feed>>;

export interface RuntimeOptions {
  /** Execution provider. */
  readonly device?: Device;
  /** Threads of one operator; default: all cores. */
  readonly threads?: number;
  /**
   * float16 and bfloat16 weights are widened when a program is compiled, not at each use: more memory, and no shorter steps
   * where it was measured (docs/decisions/0003). On a CPU.
   */
  readonly widenWeights?: boolean;
  /**
   * Programs that stay loaded, in memory, after they were released, the last ones: a graph that is compiled again, equal in all
   * but the values of its variables and inputs, takes the time of its lowering alone. 0 by default.
   */
  readonly keepPrograms?: number;
  /** Sessions in this process: it blocks during a run and can't be cancelled. For tests and short programs. */
  readonly inProcess?: boolean;
}

export interface ProgramSpec {
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** Variables and the values that replace them after each run. */
  readonly updates?: readonly (readonly [variable: Tensor, value: Tensor])[];
}

export interface Program {
  readonly nodeCount: number;
  /**
   * One run: every input by name → every output by name. Aborting the signal ends the runtime's process. `onSent` is called
   * once a runtime in another process has all inputs and works on them, the time to prepare the next.
   */
  run(
    feeds?: Feeds,
    options?: { readonly signal?: AbortSignal | undefined; readonly onSent?: () => void },
  ): Promise<Record<string, Float32Array | Int32Array>>;
  release(): Promise<void>;
}

export interface Runtime {
  readonly device: Device;
  /** Sets resident variables. */
  write(
    values: Readonly<Record<string, Float32Array>>,
    shapes: Readonly<Record<string, readonly number[]>>,
  ): Promise<void>;
  /** Copies of resident variables. */
  read(names: readonly string[]): Promise<Record<string, Float32Array>>;
  compile(spec: ProgramSpec): Promise<Program>;
  /** Compiles, runs once and releases. */
  evaluate<K extends string>(
    outputs: Readonly<Record<K, Tensor>>,
    feeds?: Feeds,
    options?: { readonly signal?: AbortSignal | undefined },
  ): Promise<Record<K, Float32Array | Int32Array>>;
  close(): Promise<void>;
}

/** A device, a feed or a variable is not as a program needs it, or ONNX Runtime failed. */
export class RuntimeFailure extends Error {
  override readonly name = "RuntimeFailure";
  readonly code: "E_DEVICE" | "E_FEED" | "E_VARIABLE" | "E_RUN" | "E_CLOSED";
  constructor(code: RuntimeFailure["code"], message: string) {
    super(`${message} [${code}]`);
    this.code = code;
  }
}
