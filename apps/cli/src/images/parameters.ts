/** The `parameters` text of generated pictures, as AUTOMATIC1111 writes it and galleries read it. */

export interface Parameters {
  readonly prompt: string;
  readonly negativePrompt: string;
  /** "Steps", "Sampler", "CFG scale", "Seed", "Size", "Model" and others, in this order. */
  readonly settings: Readonly<Record<string, string | number>>;
}

/** prompt⏎Negative prompt: …⏎Steps: 20, Sampler: DDIM, … */
export function formatParameters({ prompt, negativePrompt, settings }: Parameters): string {
  const list = Object.entries(settings).map(([key, value]) => `${key}: ${quote(String(value))}`);
  return [prompt, negativePrompt && `Negative prompt: ${negativePrompt}`, list.join(", ")].filter(Boolean).join("\n");
}

/** As JSON where the value would break the list. */
const quote = (value: string): string => (/[,:\n"]/.test(value) ? JSON.stringify(value) : value);
