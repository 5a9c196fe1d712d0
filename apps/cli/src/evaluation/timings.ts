/** How long it takes from the outside: whole processes, from their start to their files. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type Evaluation, findEncoder, type TimingRecord } from "@likeness/personalization";
import { writePng } from "../images/write-png.ts";

/** Personalizes the first photo and draws four pictures of it, `times` times, by this command line itself. */
export async function measureTimings(
  { model, set, config, plan }: Evaluation,
  bin: string,
  signal: AbortSignal,
): Promise<TimingRecord | undefined> {
  if (!plan.timing) return undefined;
  const { key, times } = plan.timing;
  const folder = mkdtempSync(join(tmpdir(), "likeness-timings-"));
  try {
    const { pixels, width, height } = set.photo(0);
    const photo = join(folder, "photo.png");
    await writePng(photo, { data: pixels, width, height });
    const word = findEncoder(model) ? [] : ["--class-word", set.subjects[0]!.class_word];
    const {
      steps,
      guidance_scale: g,
      guidance_rescale: phi = 0,
      guidance_stop: stop = 1,
      guidance_alpha: a = 1,
    } = config.sampling;
    const guidance = [
      `--guidance-scale=${g}`,
      `--guidance-rescale=${phi}`,
      `--guidance-stop=${stop}`,
      `--guidance-alpha=${a}`,
    ];
    const sampling = ["--num-images", "4", "--steps", String(steps), ...guidance, "--seed", "0"];
    const [personalize, generate]: [number[], number[]] = [[], []];
    for (let i = 0; i < times; i++) {
      const concept = join(folder, `${i}.safetensors`);
      const batch = ["--batch-size", String(config.batch_size)];
      const teach = ["personalize", photo, "--model", config.model, ...batch, ...word, "--out", concept];
      personalize.push(await seconds(bin, teach, signal));
      const draw = ["generate", set.prompts[0]!.prompt, "--model", config.model, "--concept", concept];
      generate.push(await seconds(bin, [...draw, ...sampling, "--out", join(folder, String(i))], signal));
    }
    const cpu = cpus()[0]?.model.trim() ?? "unknown";
    return { kind: "timing", key, personalize, generate, cores: availableParallelism(), cpu };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Wall-clock seconds of one command. @throws Error with what it wrote to stderr if it fails, the signal's reason if aborted */
async function seconds(bin: string, args: readonly string[], signal: AbortSignal): Promise<number> {
  signal.throwIfAborted();
  const since = performance.now();
  const child = spawn(process.execPath, [bin, ...args], { stdio: ["ignore", "ignore", "pipe"] });
  const stop = (): boolean => child.kill("SIGTERM");
  signal.addEventListener("abort", stop, { once: true });
  try {
    const ended = new Promise<number | null>((resolve, reject) => child.once("close", resolve).once("error", reject));
    const [code, err] = await Promise.all([ended, text(child.stderr)]);
    signal.throwIfAborted();
    if (code !== 0) throw new Error(`likeness ${args[0]} ended with ${code}: ${err.trim()}`);
    return (performance.now() - since) / 1000;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
