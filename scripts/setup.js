// Installs what is missing: `node scripts/setup.js` for running, `node scripts/setup.js all` for tests and training too.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const all = process.argv[2] === "all";
const require = createRequire(import.meta.url);
const has = (name) => {
  try {
    require.resolve(`${name}/package.json`);
    return true;
  } catch (error) {
    return error.code === "ERR_PACKAGE_PATH_NOT_EXPORTED";
  }
};

const needed = ["onnxruntime-node", "sharp", "tsx", "undici", "zod", ...(all ? ["vitest", "typescript", "fluentui-emoji", "@iconify-json/noto"] : [])];
if (!needed.every(has)) {
  const args = ["ci", "--no-audit", "--no-fund", ...(all ? [] : ["--omit=dev"])];
  const { status } = spawnSync("npm", args, { cwd: fileURLToPath(new URL("..", import.meta.url)), stdio: "inherit", env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: "skip" }, shell: process.platform === "win32" });
  process.exit(status ?? 1);
}
