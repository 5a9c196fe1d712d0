#!/usr/bin/env node
// Runs src/main.ts from source, from any folder. Where Node reads TypeScript itself (22.18 and later) it does, and keeps what it compiled
// for the next start; else tsx.
import * as module from "node:module";

if (process.features.typescript) {
  const { directory } = module.enableCompileCache();
  if (directory) process.env.NODE_COMPILE_CACHE ??= directory; // for the runtime's process too
} else {
  const { fileURLToPath } = await import("node:url");
  process.env.TSX_TSCONFIG_PATH ??= fileURLToPath(new URL("../../../tsconfig.json", import.meta.url));
  const tsx = import.meta.resolve("tsx");
  process.execArgv.push("--import", tsx); // for the runtime's process, which is TypeScript too
  await import(tsx);
}
await import("../src/main.ts");
