/** `likeness export`: a concept in the files of other runtimes. */
import { basename } from "node:path";
import { type Device, startRuntime } from "@likeness/engine";
import {
  describeFlattening,
  EXPORT_FORMATS,
  type ExportFormat,
  exportConcept,
  flatten,
  flatteningError,
  readConcept,
} from "@likeness/personalization";
import { defineCommand } from "../args/command.ts";
import type { Bar } from "../console/progress.ts";
import { MODEL_FLAGS, openModel } from "../model.ts";
import { expectFile, expectOutputFolder } from "../paths.ts";
import { DEVICE, MODEL } from "./shared-flags.ts";

export default defineCommand({
  name: "export",
  summary: "Writes a concept for diffusers, kohya's scripts, A1111 or cloneofsimo's LoRA, and says how close it comes.",
  positional: { name: "CONCEPT", description: "a concept that `likeness personalize` made", aliases: ["concept"] },
  flags: {
    format: {
      type: "string",
      hint: "NAME",
      description: `${EXPORT_FORMATS.join(", ")} (kohya's files are ComfyUI's too)`,
      choices: EXPORT_FORMATS,
      required: true,
      aliases: ["f"],
    },
    ...MODEL_FLAGS,
    model: { ...MODEL, description: `${MODEL.description}; the one that the concept was made for` },
    out: {
      type: "string",
      hint: "DIR",
      description: "folder of the files",
      required: true,
      aliases: ["o", "output-dir"],
    },
    draws: {
      type: "integer",
      default: 2,
      min: 1,
      max: 100,
      description: "noises from which the difference to the dual path is measured, four steps each",
    },
    device: DEVICE,
  },
  examples: ["likeness export duck.safetensors --format diffusers --model models/pocket --out duck"],
  async run(path, options, { signal, progress, print, json }) {
    expectOutputFolder("--out", options.out);
    expectFile("CONCEPT", path);
    const model = openModel(options);
    const concept = readConcept(path, model);
    // a word in prompts too: nothing that A1111 or ComfyUI take for their own syntax
    const name = basename(path)
      .replace(/\.safetensors$/, "")
      .replace(/[\s,:()<>[\]{}|\\]+/g, "-");
    const runtime = await startRuntime({ device: options.device as Device });
    let bar: Bar | undefined;
    try {
      const flat = await flatten(runtime, model, concept);
      const error = await flatteningError(runtime, model, concept, flat, {
        ...{ draws: options.draws, signal },
        onStep: ({ step, steps }) => {
          bar ??= progress.bar("Comparing", steps, { start: step });
          bar.update(step);
        },
      });
      signal.throwIfAborted();
      const { files, token, usage } = exportConcept(
        options.out,
        options.format as ExportFormat,
        flat,
        name,
        model,
        error,
      );
      if (json) return print({ files, token, usage, flattening: error });
      for (const file of files) print(file);
      print(`Difference: ${describeFlattening(error)}.`);
      print(`Use: ${usage}.`);
    } finally {
      await runtime.close();
    }
  },
});
