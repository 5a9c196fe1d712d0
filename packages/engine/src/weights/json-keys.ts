/** What JSON.parse hides: a key that stands twice in one object. */

/** The first key that occurs twice in the same object of a valid JSON text, or undefined. */
export function duplicateKey(text: string): string | undefined {
  const seen: (Set<string> | undefined)[] = [];
  const strings = /"(?:[^"\\]|\\.)*"|[{}[\]]/g;
  for (let m = strings.exec(text); m; m = strings.exec(text)) {
    const token = m[0];
    if (token === "{") seen.push(new Set());
    else if (token === "[") seen.push(undefined);
    else if (token === "}" || token === "]") seen.pop();
    else if (/^\s*:/.test(text.slice(strings.lastIndex, strings.lastIndex + 16))) {
      const key = JSON.parse(token) as string;
      const keys = seen.at(-1);
      if (keys?.has(key)) return key;
      keys?.add(key);
    }
  }
  return undefined;
}
