/** What a LoRA file changes: its layers among those of a base model, its tokens, its trigger word. */
import { knownBase, type LoraModule, loraModules, type NamedLoraBase, planLora } from "@likeness/diffusion";
import type { SafetensorsHeader } from "@likeness/engine";

export interface LoraFacts {
  readonly format: string;
  readonly ranks: readonly number[];
  /** The base whose layers are counted, and which the file was made for, as far as is known. */
  readonly base: string | undefined;
  readonly made_for: string | undefined;
  /** How many layers of each kind are changed, "unet to_q" → 32. */
  readonly layers: Readonly<Record<string, number>>;
  /** Layers of the base in all, "unet" → 282. */
  readonly of: Readonly<Record<string, number>>;
  readonly trigger: readonly string[];
  /** Keys that have no place in the base: another size, another name, another kind. */
  readonly unmatched: readonly { readonly key: string; readonly reason: string }[];
}

/** @param base the model to match with; without one, SD 1.x or 2.x by the file's own shapes */
export function loraFacts(header: SafetensorsHeader, base?: NamedLoraBase): LoraFacts | undefined {
  const first = planLora(header, []);
  if (!first || first.strangers.length + first.halves.length + first.unsupported.length === 0) return undefined;
  const known = base ?? knownBase(first.textWidth ?? 0);
  const modules = known ? loraModules(known) : [];
  const plan = known ? planLora(header, modules)! : first;
  const keysOf = (reason: string, group: { name: string }): LoraFacts["unmatched"] =>
    Object.entries(group).flatMap(([role, key]) =>
      role === "down" || role === "up" || role === "alpha" ? [{ key: String(key), reason }] : [],
    );
  const missing = known
    ? `${known.name} has no layer of this name`
    : "its base model isn't known: give it with --model";
  const phrase = header.metadata["modelspec.trigger_phrase"];
  return {
    format: plan.layout.format,
    ranks: [...new Set(plan.matched.map(({ rank }) => rank))].sort((a, b) => a - b),
    base: known?.name,
    made_for: plan.family,
    layers: count(plan.matched.map(({ module }) => `${module.component} ${kindOf(module)}`)),
    of: count(modules.map(({ component }) => component)),
    trigger: [...new Set([...(phrase ? [phrase] : []), ...plan.tokens.map(({ token }) => token)])],
    unmatched: [
      ...plan.misfits.flatMap((m) => keysOf(`its size isn't that of ${known!.name}`, m)),
      ...plan.strangers.flatMap((s) => keysOf(missing, s)),
      ...plan.halves.flatMap((h) => keysOf("its other factor is missing", h)),
      ...plan.unsupported.map(({ key, kind }) => ({ key, reason: `${kind} isn't supported` })),
      ...plan.unknown.map((key) => ({ key, reason: `not a key of ${plan.layout.format}'s layout` })),
    ],
  };
}

/** The end of a path that names the kind of layer: "to_q", "ff.net.0.proj", "conv1". */
const kindOf = ({ path }: LoraModule): string => /(ff\.net\.\d(\.proj)?|to_out\.0|[^.]*[a-z][^.]*)$/.exec(path)![1]!;

function count(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** The facts as lines of text. */
export function loraLines({ base, layers, of, trigger, unmatched }: LoraFacts): string[] {
  const lines = Object.entries(of).map(([part, all]) => {
    const own = Object.entries(layers).filter(([name]) => name.startsWith(`${part} `));
    const total = own.reduce((n, [, c]) => n + c, 0);
    const kinds = own.map(([name, c]) => `${name.slice(part.length + 1)} ${c}`).join(", ");
    return `  ${part}: ${total} of the ${all} layers of ${base}${kinds && ` (${kinds})`}`;
  });
  const [first] = unmatched;
  const left = first ? [`  ${unmatched.length} keys without a place, such as ${first.key}: ${first.reason}`] : [];
  return ["Changes", ...lines, ...left, ...(trigger.length ? [`  in prompts: ${trigger.join(" ")}`] : [])];
}
