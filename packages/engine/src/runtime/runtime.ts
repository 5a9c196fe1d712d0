/** Starts runtimes: in a child process (the default) or in this one. */
import { type ChildProcess, fork } from "node:child_process";
import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { fileURLToPath, pathToFileURL } from "node:url";
import { leafName } from "../core/leaves.ts";
import { expectShape } from "../core/shape.ts";
import type { DType, Tensor } from "../core/tensor.ts";
import type { Device } from "../onnx/builder.ts";
import { lower } from "../onnx/lower.ts";
import { type CompileRequest, Host } from "./host.ts";
import { type Feeds, type ProgramSpec, type Runtime, RuntimeFailure, type RuntimeOptions } from "./types.ts";

type Call = <T>(method: string, args: readonly unknown[], signal?: AbortSignal, onSent?: () => void) => Promise<T>;

/**
 * A runtime on one execution provider. Close it when done. One on a CPU doesn't wait for its process to start: graphs are made in the
 * meantime.
 * @throws RuntimeFailure if the device isn't there
 */
export async function startRuntime({
  device = "cpu",
  threads = availableParallelism(),
  widenWeights = false,
  keepPrograms = 0,
  inProcess = false,
}: RuntimeOptions = {}): Promise<Runtime> {
  const widenOnce = widenWeights && device === "cpu";
  if (inProcess) {
    const host = new Host(device, threads);
    return runtimeOver(
      device,
      await host.ready(),
      // biome-ignore lint/suspicious/noExplicitAny: the same names as the messages to a child
      async (method, args) => (host as any)[method](...args),
      async () => {},
      { widenOnce, keepPrograms },
    );
  }
  const child = new Child(device, threads);
  const ready = child.call<DType[]>("ready", []);
  ready.catch(() => {}); // on a CPU the first call has the error too
  return runtimeOver(device, device === "cpu" ? [] : await ready, child.call, child.close, { widenOnce, keepPrograms });
}

function runtimeOver(
  device: Device,
  widened: readonly DType[],
  call: Call,
  close: () => Promise<void>,
  { widenOnce, keepPrograms }: { widenOnce: boolean; keepPrograms: number },
): Runtime {
  const idle = new IdlePrograms(keepPrograms, (id) => call("release", [id]));
  const runtime: Runtime = {
    device,
    write: (values, shapes) => call("write", [values, shapes]),
    read: (names) => call("read", [names]),
    compile: async ({ outputs, updates = [] }) => {
      const results = { ...outputs, ...updateOutputs(updates) };
      const { model, nodeCount, ...graph } = lower(results, device, new Set(widened), widenOnce);
      const names = { outputs: Object.keys(results), updates: updates.map(([v]) => leafName(v)) };
      const request: CompileRequest = { ...graph, ...names, model };
      const key = keepPrograms > 0 ? keyOf(request) : "";
      const id = idle.take(key) ?? (await call<number>("compile", [request]));
      let released = false;
      return {
        nodeCount,
        run: async (feeds: Feeds = {}, { signal, onSent } = {}) => {
          if (released) throw new RuntimeFailure("E_CLOSED", "program: it was released.");
          return call("run", [id, feeds], signal, onSent);
        },
        release: async () => {
          if (released) return;
          released = true;
          await idle.put(key, id);
        },
      };
    },
    evaluate: async (outputs, feeds, options) => {
      const program = await runtime.compile({ outputs });
      try {
        return (await program.run(feeds, options)) as Record<keyof typeof outputs, Float32Array | Int32Array>;
      } finally {
        await program.release();
      }
    },
    close,
  };
  return runtime;
}

/** What makes two programs the same one: all that the process with the sessions is told. */
function keyOf({ model, ...rest }: CompileRequest): string {
  return createHash("sha256").update(model).update(JSON.stringify(rest)).digest("hex");
}

/** Released programs that stay loaded, in case they are compiled again; beyond `limit`, the one unused for longest goes. */
class IdlePrograms {
  private readonly ids = new Map<string, number>();
  private readonly limit: number;
  private readonly drop: (id: number) => Promise<void>;

  constructor(limit: number, drop: (id: number) => Promise<void>) {
    this.limit = limit;
    this.drop = drop;
  }

  take(key: string): number | undefined {
    const id = this.ids.get(key);
    this.ids.delete(key);
    return id;
  }

  async put(key: string, id: number): Promise<void> {
    if (this.limit === 0 || this.ids.has(key)) return this.drop(id);
    this.ids.set(key, id);
    if (this.ids.size <= this.limit) return;
    const [oldest, last] = this.ids.entries().next().value!;
    this.ids.delete(oldest);
    await this.drop(last);
  }
}

function updateOutputs(updates: NonNullable<ProgramSpec["updates"]>): Record<string, Tensor> {
  for (const [v, value] of updates) expectShape(value.shape, v.shape, `update of "${leafName(v)}"`);
  return Object.fromEntries(updates.map(([v, value]) => [`update:${leafName(v)}`, value]));
}

/** Node 22.18 and later read TypeScript themselves; older ones need tsx, which the parent may or may not run under. */
function loaderArgs(): string[] {
  const { execArgv, features } = process;
  if ("typescript" in features && features.typescript) return execArgv;
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;
  return execArgv.some((a) => a.includes("tsx")) ? execArgv : ["--import", tsx];
}

/** The process that holds the sessions. A run can't be interrupted, but the process can. */
class Child {
  private readonly process: ChildProcess;
  private readonly waiting = new Map<number, { resolve: (v: never) => void; reject: (e: Error) => void }>();
  private nextId = 1;
  private ended: Error | undefined;

  constructor(device: Device, threads: number) {
    this.process = fork(fileURLToPath(new URL("./child.ts", import.meta.url)), [device, String(threads)], {
      execArgv: loaderArgs(),
      serialization: "advanced",
      // Freed blocks stay in the heap, so that results of one step reuse the pages of the one before; but those of 64 MB and
      // more, most of a session's memory, go back when it is released, and the next program finds room.
      env: { ...process.env, MALLOC_MMAP_THRESHOLD_: "67108864", MALLOC_TRIM_THRESHOLD_: "8589934592" },
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.process.on(
      "message",
      ({ id, result, error }: { id: number; result: never; error?: { message: string; code?: string } }) => {
        const waiter = this.waiting.get(id);
        this.waiting.delete(id);
        if (error) waiter?.reject(Object.assign(new Error(error.message), { code: error.code ?? "E_RUN" }));
        else waiter?.resolve(result);
        if (this.waiting.size === 0) this.process.channel?.unref();
      },
    );
    this.process.on("exit", (status, signal) =>
      this.end(new RuntimeFailure("E_CLOSED", `runtime process ended (${signal ?? status}).`)),
    );
    this.process.on("error", (error) => this.end(error));
    this.process.unref();
  }

  private end(error: Error): void {
    this.ended ??= error;
    for (const { reject } of this.waiting.values()) reject(this.ended);
    this.waiting.clear();
  }

  call: Call = (method, args, signal, onSent) =>
    new Promise((resolve, reject) => {
      if (this.ended) return reject(this.ended);
      if (signal?.aborted) return reject(signal.reason);
      const id = this.nextId++;
      const abort = (): void => {
        this.end(signal!.reason);
        this.process.kill("SIGKILL");
      };
      const done = (): void => signal?.removeEventListener("abort", abort);
      signal?.addEventListener("abort", abort, { once: true });
      this.waiting.set(id, {
        resolve: (v) => {
          done();
          resolve(v);
        },
        reject: (e) => {
          done();
          reject(e);
        },
      });
      this.process.channel?.ref();
      this.process.send({ id, method, args }, (error) => (error ? this.end(error) : onSent?.()));
    });

  close = async (): Promise<void> => {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const gone = new Promise((resolve) => this.process.once("exit", resolve));
    this.ended ??= new RuntimeFailure("E_CLOSED", "runtime: it was closed.");
    this.process.ref();
    this.process.kill("SIGKILL");
    await gone;
  };
}

/** Compiles and runs once, in this process. */
export async function evaluate<K extends string>(
  outputs: Record<K, Tensor>,
  feeds: Feeds = {},
): Promise<Record<K, Float32Array>> {
  const runtime = await startRuntime({ inProcess: true });
  return (await runtime.evaluate(outputs, feeds)) as Record<K, Float32Array>;
}
