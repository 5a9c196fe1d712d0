/** `likeness pretrain`: pre-trains the tuning-encoder as a config says. */
import { LikenessError } from "@likeness/engine/errors";
import { defineCommand } from "../args/command.ts";
import { expectFile } from "../paths.ts";
import { DEVICE, RESUME } from "./shared-flags.ts";

export default defineCommand({
  name: "pretrain",
  summary: "Pre-trains the tuning-encoder of a base model as a config says.",
  positional: { name: "CONFIG.json", description: "config of the run", aliases: ["config"] },
  flags: { resume: RESUME, device: DEVICE },
  examples: ["likeness pretrain models/pocket/training/4-encoder.json --resume latest"],
  async run(path) {
    expectFile("config", path);
    throw new LikenessError("E_NOT_WIRED", { what: "pretrain is not wired yet" });
  },
});
