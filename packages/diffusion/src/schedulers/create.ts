import { SCHEDULER_CLASSES, type SchedulerClass, SchedulerError, schedulerClass } from "./config.ts";
import { ddimScheduler } from "./ddim.ts";
import { ddpmScheduler } from "./ddpm.ts";
import type { Scheduler } from "./scheduler.ts";

const MAKERS: Record<SchedulerClass, (json: unknown, where?: string) => Scheduler> = {
  DDPMScheduler: ddpmScheduler,
  DDIMScheduler: ddimScheduler,
};

/** Names as users write them. */
export const SCHEDULER_NAMES: readonly string[] = SCHEDULER_CLASSES.map(shortName);

/**
 * The scheduler of a scheduler_config.json, or another one on the same noise schedule.
 * @param name "ddim", "ddpm" (or diffusers' class name); by default what the file names
 * @throws SchedulerError
 */
export function createScheduler(json: unknown, name?: string, where?: string): Scheduler {
  if (name === undefined) return MAKERS[schedulerClass(json, where)](json, where);
  const known = SCHEDULER_CLASSES.find((c) => c === name || shortName(c) === name.toLowerCase());
  if (!known) throw new SchedulerError(`scheduler: needed ${SCHEDULER_NAMES.join(" or ")}, found "${name}".`);
  return MAKERS[known](json, where);
}

function shortName(name: SchedulerClass): string {
  return name.replace("Scheduler", "").toLowerCase();
}
