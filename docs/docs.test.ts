/** What the docs show is run: the blocks of a page are one program, and it prints what the page says. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const here = fileURLToPath(new URL(".", import.meta.url));

const blocks = (page: string, language: string): string =>
  [...page.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map((m) => m[1]).join("");

test.each(["how-it-works.md"])("%s does what it says", (name) => {
  const page = readFileSync(join(here, name), "utf8");
  const folder = mkdtempSync(join(here, ".run-"));
  try {
    const file = join(folder, "page.ts");
    writeFileSync(file, blocks(page, "ts"));
    const { stdout, stderr, status } = spawnSync(process.execPath, ["--import", "tsx", file], {
      encoding: "utf8",
      cwd: join(here, ".."),
    });
    expect(stderr, stderr).not.toMatch(/Error/);
    expect(stdout).toBe(blocks(page, "text"));
    expect(status).toBe(0);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
