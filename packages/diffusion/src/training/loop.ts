/** The training loop: steps, learning-rate schedule, log, checkpoints that resume to the same numbers. */
import { appendFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  add,
  atomicWrite,
  type Feeds,
  grad,
  leafName,
  type MuonOptions,
  mul,
  muon,
  type Optimizer,
  type Program,
  type Runtime,
  readFloats,
  readSafetensorsHeader,
  resetState,
  type Tensor,
  type Variables,
  variable,
  writeSafetensors,
} from "@likeness/engine";

export interface TrainingOptions {
  /** Folder of the log and the checkpoint. */
  readonly run: string;
  readonly steps: number;
  readonly learningRate: number;
  /** Linear warm-up, in steps; then constant, then cosine to a tenth over the last `decaySteps`. */
  readonly warmupSteps: number;
  readonly decaySteps: number;
  readonly checkpointingSteps: number;
  readonly loggingSteps: number;
  /** Of AdamW, or of Muon if it names matrices. */
  readonly optimizer: MuonOptions;
  /** Continue from the run's checkpoint if there is one. */
  readonly resume: boolean;
}

export interface TrainingTask {
  readonly variables: Variables;
  /** Scalars; "loss" is minimised, the others are logged. */
  readonly scalars: Readonly<Record<string, Tensor>> & { readonly loss: Tensor };
  /** Inputs of a step. It depends on the step alone, so that a resumed run sees the same data. */
  feeds(step: number): Feeds | Promise<Feeds>;
  readonly batchSize: number;
}

export interface TrainingEvent {
  readonly step: number;
  readonly steps: number;
  readonly lr: number;
  readonly samplesPerSecond: number;
  readonly [scalar: string]: number;
}

export interface TrainingHooks {
  onStep?(event: TrainingEvent): void;
  /** After each checkpoint; parameters are in the runtime, averages too if an EMA is kept. */
  onCheckpoint?(step: number): Promise<void>;
  readonly signal?: AbortSignal | undefined;
}

const checkpointFile = (run: string): string => join(run, "checkpoint.safetensors");

/** Values to start from: those of the run's checkpoint if it is to be resumed. */
export function resumeFrom(
  run: string,
  resume: boolean,
): { step: number; start: (key: string) => Float32Array | undefined } {
  const path = checkpointFile(run);
  if (!resume || !existsSync(path)) return { step: 0, start: () => undefined };
  return { step: Number(readSafetensorsHeader(path).metadata.step), start: startFrom(path) };
}

/** Start values from a file of weights, by key. @throws SafetensorsError if there is none */
export function startFrom(path: string): (key: string) => Float32Array | undefined {
  const header = readSafetensorsHeader(path);
  return (key) => (header.tensors.has(key) ? readFloats(header, key) : undefined);
}

/** Warm-up, plateau and cosine decay to a tenth. step counts from 1. */
export function learningRate(
  step: number,
  { steps, learningRate: lr, warmupSteps, decaySteps }: TrainingOptions,
): number {
  if (step <= warmupSteps) return (lr * step) / warmupSteps;
  const into = (step - (steps - decaySteps)) / decaySteps;
  return into <= 0 ? lr : lr * (0.1 + 0.45 * (1 + Math.cos(Math.PI * Math.min(1, into))));
}

/**
 * Runs the task from its last checkpoint to the end, and returns the last step.
 * @throws the signal's reason if aborted, at once: the step under way is lost, the checkpoint before it is kept
 */
export async function train(
  runtime: Runtime,
  task: TrainingTask,
  options: TrainingOptions,
  hooks: TrainingHooks = {},
): Promise<number> {
  mkdirSync(options.run, { recursive: true });
  const params = task.variables.all();
  const optimizer = muon(params, grad(task.scalars.loss, params), options.optimizer);
  const { step: done, start } = resumeFrom(options.run, options.resume);
  await load(runtime, task.variables, optimizer, start);
  const program = await runtime.compile({
    outputs: { ...task.scalars, grad_norm: optimizer.gradNorm },
    updates: optimizer.updates,
  });
  const log = openLog(options.run, done);
  let since = performance.now();
  let counted = 0;
  let step = done;
  let next: Promise<Feeds> | undefined; // the next step's, made while the runtime works
  while (step < options.steps) {
    hooks.signal?.throwIfAborted();
    const lr = learningRate(++step, options);
    const feeds = { ...(await (next ?? task.feeds(step))), ...optimizer.feeds(step, lr) };
    next = undefined;
    const scalars = await run(program, feeds, hooks.signal, () => {
      const following = step + 1;
      if (following > options.steps) return;
      next = Promise.resolve().then(() => task.feeds(following));
      next.catch(() => {}); // whoever awaits it is told
    });
    if (!Number.isFinite(scalars.loss))
      throw new Error(
        `step ${step}: the loss is ${scalars.loss}. Lower the learning rate; the checkpoint before is kept.`,
      );
    counted++;
    const seconds = (performance.now() - since) / 1000;
    const event: TrainingEvent = {
      step,
      steps: options.steps,
      lr,
      samplesPerSecond: (counted * task.batchSize) / seconds,
      ...scalars,
    };
    hooks.onStep?.(event);
    if (step % options.loggingSteps === 0 || step === options.steps) {
      log(event);
      since = performance.now();
      counted = 0;
    }
    if (step % options.checkpointingSteps === 0 || step === options.steps) {
      await saveCheckpoint(runtime, params, optimizer, options.run, step);
      await hooks.onCheckpoint?.(step);
    }
  }
  await program.release();
  return step;
}

async function run(
  program: Program,
  feeds: Feeds,
  signal: AbortSignal | undefined,
  onSent: () => void,
): Promise<Record<string, number> & { loss: number }> {
  const results = await program.run(feeds, { signal, onSent });
  return Object.fromEntries(Object.entries(results).map(([k, v]) => [k, v[0]!])) as Record<string, number> & {
    loss: number;
  };
}

/** Appends events to a run's log, once it has only the steps that led to where the run goes on from: those after are done again. */
function openLog(run: string, done: number): (event: TrainingEvent) => void {
  const path = join(run, "log.ndjson");
  let trimmed = false;
  return (event) => {
    if (!trimmed && existsSync(path)) {
      const kept = readFileSync(path, "utf8")
        .split("\n")
        .filter((line) => stepOf(line) <= done);
      atomicWrite(path, [Buffer.from(kept.map((line) => `${line}\n`).join(""))]);
    }
    trimmed = true;
    appendFileSync(path, `${JSON.stringify(rounded(event))}\n`);
  };
}

/** The step of a line of the log; infinite for what an interrupted write left of one. */
function stepOf(line: string): number {
  try {
    return (JSON.parse(line) as TrainingEvent).step;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

const rounded = (event: TrainingEvent): Record<string, number> =>
  Object.fromEntries(Object.entries(event).map(([k, v]) => [k, Number(v.toPrecision(5))]));

/** Parameters, optimizer state and averages: from the checkpoint, or fresh. */
async function load(
  runtime: Runtime,
  variables: Variables,
  optimizer: Optimizer,
  start: (key: string) => Float32Array | undefined,
): Promise<void> {
  await variables.load(runtime);
  await resetState(runtime, optimizer);
  const params = new Map(variables.all().map((p) => [leafName(p), p]));
  for (const [target] of optimizer.updates) {
    const name = leafName(target);
    if (params.has(name)) continue;
    const kept = start(name);
    if (kept) await runtime.write({ [name]: kept }, { [name]: target.shape });
    else if (name.startsWith("ema.")) {
      const values = await runtime.read([name.slice(4)]);
      await runtime.write({ [name]: values[name.slice(4)]! }, { [name]: target.shape });
    }
  }
}

async function saveCheckpoint(
  runtime: Runtime,
  params: readonly Tensor[],
  optimizer: Optimizer,
  run: string,
  step: number,
): Promise<void> {
  const tensors = [...new Map([...params, ...optimizer.updates.map(([v]) => v)].map((t) => [leafName(t), t])).values()];
  const values = await runtime.read(tensors.map(leafName));
  const entries = tensors.map(
    (t) => [leafName(t), { dtype: "F32", shape: t.shape, data: values[leafName(t)]! }] as const,
  );
  writeSafetensors(checkpointFile(run), Object.fromEntries(entries), { step: String(step) });
}

/** Gradients of several losses added: Σ weight·loss as one tensor. */
export const weighted = (terms: readonly (readonly [weight: number, loss: Tensor])[]): Tensor =>
  terms.map(([w, loss]) => (w === 1 ? loss : mul(loss, w))).reduce(add);

/** The variable that holds a parameter's moving average. */
export const average = (p: Tensor): Tensor => variable(`ema.${leafName(p)}`, p.shape);
