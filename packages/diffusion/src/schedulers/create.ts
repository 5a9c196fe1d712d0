import { SCHEDULER_CLASSES, type SchedulerClass, SchedulerError, schedulerClass } from "./config.ts";
import { ddimScheduler } from "./ddim.ts";
import { ddpmScheduler } from "./ddpm.ts";
import { dpmSolverScheduler } from "./dpm-solver.ts";
import { eulerAncestralScheduler, eulerScheduler } from "./euler.ts";
import { lcmScheduler } from "./lcm.ts";
import { lmsScheduler } from "./lms.ts";
import { pndmScheduler } from "./pndm.ts";
import type { Scheduler } from "./scheduler.ts";
import { unipcScheduler } from "./unipc.ts";

const MAKERS: Record<SchedulerClass, (json: unknown, where?: string) => Scheduler> = {
  DDPMScheduler: ddpmScheduler,
  DDIMScheduler: ddimScheduler,
  PNDMScheduler: pndmScheduler,
  LMSDiscreteScheduler: lmsScheduler,
  EulerDiscreteScheduler: eulerScheduler,
  EulerAncestralDiscreteScheduler: eulerAncestralScheduler,
  DPMSolverMultistepScheduler: dpmSolverScheduler,
  UniPCMultistepScheduler: unipcScheduler,
  LCMScheduler: lcmScheduler,
};

const karras = { use_karras_sigmas: true };
const sde = { algorithm_type: "sde-dpmsolver++" };

/** Names for the command line, with what they change in the file's settings; and what other programs call the same. */
const NAMES: Readonly<Record<string, readonly [SchedulerClass, Readonly<Record<string, unknown>>?, ...string[]]>> = {
  ddpm: ["DDPMScheduler"],
  ddim: ["DDIMScheduler"],
  pndm: ["PNDMScheduler", { skip_prk_steps: true }, "plms"],
  lms: ["LMSDiscreteScheduler"],
  "lms-karras": ["LMSDiscreteScheduler", karras],
  euler: ["EulerDiscreteScheduler"],
  "euler-karras": ["EulerDiscreteScheduler", karras],
  "euler-a": ["EulerAncestralDiscreteScheduler", {}, "euler-ancestral"],
  "dpm++-2m": ["DPMSolverMultistepScheduler", {}, "dpm++", "dpmsolver++", "dpmsolver"],
  "dpm++-2m-karras": ["DPMSolverMultistepScheduler", karras, "dpm++-karras", "dpmsolver++-karras"],
  "dpm++-2m-sde": ["DPMSolverMultistepScheduler", sde, "sde-dpmsolver++"],
  "dpm++-2m-sde-karras": ["DPMSolverMultistepScheduler", { ...sde, ...karras }],
  unipc: ["UniPCMultistepScheduler"],
  lcm: ["LCMScheduler"],
};
export const SCHEDULER_NAMES: readonly string[] = Object.keys(NAMES);

/** Without case, spaces, hyphens, and what some programs put around a name: "k_euler_a", "dpmpp_2m", "Euler a". */
const bare = (name: string): string =>
  name
    .toLowerCase()
    .replace(/^k[_-]/, "")
    .replace("pp", "++")
    .replaceAll(/[\s_-]/g, "");

const BY_BARE_NAME: ReadonlyMap<string, string> = new Map(
  Object.entries(NAMES).flatMap(([name, [, , ...more]]) =>
    [name, ...more].map((n): [string, string] => [bare(n), name]),
  ),
);

/**
 * The scheduler of a scheduler_config.json, or another one on the same noise schedule: as diffusers' from_config.
 * @param name one of SCHEDULER_NAMES, diffusers' class name or one as in "DPM++ 2M Karras"; by default the file's class
 * @throws SchedulerError
 */
export function createScheduler(json: unknown, name?: string, where?: string): Scheduler {
  if (name === undefined) return MAKERS[schedulerClass(json, where)](json, where);
  const byClass = SCHEDULER_CLASSES.find((c) => c === name);
  const [known, changes] = byClass ? [byClass] : (NAMES[BY_BARE_NAME.get(bare(name)) ?? ""] ?? []);
  if (!known) throw new SchedulerError(`scheduler: needed one of ${SCHEDULER_NAMES.join(", ")}, found "${name}".`);
  return MAKERS[known]({ ...(json as object), ...changes }, where);
}
