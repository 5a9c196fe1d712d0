#!/usr/bin/env node
// Runs src/main.ts from source, from any folder. Where Node reads TypeScript itself (22.18 and later) it does; else tsx.
if (!process.features.typescript) {
  const { fileURLToPath } = await import("node:url");
  process.env.TSX_TSCONFIG_PATH ??= fileURLToPath(new URL("../../../tsconfig.json", import.meta.url));
  const tsx = import.meta.resolve("tsx");
  process.execArgv.push("--import", tsx); // for the runtime's process, which is TypeScript too
  await import(tsx);
}
await import("../src/main.ts");
