/** What JSON.parse hides: a key that stands twice in one object. */

/** The first key that occurs twice in the same object of a valid JSON text, or undefined. */
export function duplicateKey(text: string): string | undefined {
  /** Keys of the objects that are open here; undefined for an array. */
  const open: (Set<string> | undefined)[] = [];
  let keyNext = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === "{") {
      open.push(new Set());
      keyNext = true;
    } else if (c === "[") open.push(undefined);
    else if (c === "}" || c === "]") open.pop();
    else if (c === ",") keyNext = open.at(-1) !== undefined;
    else if (c === '"') {
      const start = i++;
      while (text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
      if (!keyNext) continue;
      keyNext = false;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      const keys = open.at(-1)!;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}
