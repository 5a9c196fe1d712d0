/**
 * Packs what a bare Linux machine with a GPU needs to train from this checkout (Node, ONNX Runtime, the other packages
 * that run, Vulkan's loader, the world's sprites) into .gpu/, in pieces that fit beside the checkout in one transfer each:
 *
 *     node --import tsx scripts/gpu-pack.ts [--limit-mib 64] [--no-sprites]
 *
 * It prints, for each transfer, the piece to carry and the command to run there; scripts/gpu-run.sh is the other end.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: { "limit-mib": { type: "string", default: "64" }, "no-sprites": { type: "boolean", default: false } },
});
const MIB = 2 ** 20;
/** What a transfer holds apart from its bytes: names, sizes, rounding. */
const MARGIN = MIB;

/** Run-time packages, and which of their files aren't needed. */
const PACKAGES: Readonly<Record<string, RegExp | undefined>> = {
  "onnxruntime-node": /\/bin\/napi-v6\/(?!linux(\/x64(\/(libonnxruntime\.so\.1|onnxruntime_binding\.node))?)?$)/,
  "onnxruntime-common": undefined,
  tsx: undefined,
  esbuild: /\/esbuild\/bin\b/, // the same binary as in @esbuild
  "@esbuild/linux-x64": undefined,
  zod: /\/zod\/src\b/,
  undici: /\/undici\/docs\b/,
  sharp: undefined,
  "@img/colour": undefined,
  "@img/sharp-linux-x64": undefined,
  "@img/sharp-libvips-linux-x64": undefined,
  "detect-libc": undefined,
  semver: undefined,
  "@likeness": undefined,
};
/** Of the packages with art, only which subjects there are: the art itself is in the sprites. */
const LISTS = [
  "emojibase-data/package.json",
  "emojibase-data/en/data.json",
  "emojibase-data/meta/groups.json",
  "@iconify-json/noto/package.json",
  "@iconify-json/noto/chars.json",
  "fluentui-emoji/package.json",
  "@lobehub/fluent-emoji-3d/package.json",
  "@twemoji/svg/package.json",
];
const ART = ["fluentui-emoji/icons/flat", "@lobehub/fluent-emoji-3d/assets", "@twemoji/svg"];
const SPRITES = "data/world/sprites.bin";
/** Debian's names of Vulkan's loader and of what NVIDIA's driver loads beside it. */
const LOADERS = ["libvulkan1", "libegl1", "libglvnd0", "libopengl0", "libgl1", "libglx0", "libgles2"];

const say = (text: string): boolean => process.stderr.write(`${text}\n`);
const stage = ".gpu/stage";

function main(): void {
  if (process.platform !== "linux" || process.arch !== "x64")
    throw new Error(
      `this machine: needed linux x64, as binaries are packed from it, found ${process.platform} ${process.arch}.`,
    );
  if (!values["no-sprites"] && !existsSync(SPRITES))
    throw new Error(
      `${SPRITES}: needed the cached sprites, found none. Run \`npm run world -- --sheet --out out/sheet.png\` first, or pass --no-sprites.`,
    );
  const room = Number(values["limit-mib"]) * MIB - checkoutBytes() - MARGIN;
  if (!(room > MIB))
    throw new Error(
      `--limit-mib ${values["limit-mib"]}: needed more than the checkout and a margin take, found ${Math.floor(room / MIB)} MiB left for a piece.`,
    );
  rmSync(".gpu", { recursive: true, force: true });
  mkdirSync(join(stage, ".gpu/bin"), { recursive: true });
  node();
  for (const [name, without] of Object.entries(PACKAGES)) copyPackage(name, without);
  loaders();
  if (!values["no-sprites"]) {
    for (const file of LISTS) copy(join("node_modules", file));
    for (const folder of ART) emptyFiles(join("node_modules", folder));
    copy(SPRITES);
  }
  say("Compressing");
  execFileSync("sh", ["-c", `tar -C ${stage} -cf - . | nice -n 5 xz -T0 -6 > .gpu/pack.xz`]);
  execFileSync("split", ["-b", String(room), "-d", "-a", "2", ".gpu/pack.xz", ".gpu/pack."]);
  rmSync(stage, { recursive: true });
  rmSync(".gpu/pack.xz");
  tell();
}

/** Bytes of what travels with every transfer: tracked files, and untracked ones that git doesn't ignore. */
function checkoutBytes(): number {
  const list = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    maxBuffer: MIB << 6,
  });
  const files = new Set(list.toString().split("\0").filter(Boolean));
  return [...files].reduce((n, file) => n + (statSync(file, { throwIfNoEntry: false })?.size ?? 0), 0);
}

function node(): void {
  const to = join(stage, ".gpu/bin/node");
  try {
    execFileSync("strip", ["-s", "-o", to, process.execPath]);
  } catch {
    copyFileSync(process.execPath, to); // binutils aren't everywhere; it is only larger then
  }
}

function copy(path: string): void {
  mkdirSync(dirname(join(stage, path)), { recursive: true });
  copyFileSync(path, join(stage, path));
}

function copyPackage(name: string, without: RegExp | undefined): void {
  const from = join("node_modules", name);
  const useless = /\.(map|d\.[cm]?ts|md)$/;
  cpSync(from, join(stage, from), {
    recursive: true,
    verbatimSymlinks: true,
    filter: (source) => !useless.test(source) && !without?.test(source),
  });
}

/** The subjects are those of which there is a file; which bytes it holds is never asked once sprites are cached. */
function emptyFiles(folder: string): void {
  mkdirSync(join(stage, folder), { recursive: true });
  for (const name of readdirSync(folder)) if (/\.(svg|webp)$/.test(name)) writeFileSync(join(stage, folder, name), "");
}

function loaders(): void {
  const to = join(stage, ".gpu/debs");
  mkdirSync(to);
  try {
    execFileSync("apt-get", ["download", "-q", ...LOADERS], { cwd: to, stdio: ["ignore", "ignore", "pipe"] });
  } catch (error) {
    say(
      `Vulkan's loader isn't packed: ${(error as Error).message.split("\n").at(-1)}. The other machine has to have it.`,
    );
  }
}

function tell(): void {
  const pieces = readdirSync(".gpu").sort();
  for (const [i, piece] of pieces.entries()) {
    const last = i === pieces.length - 1;
    const mib = (statSync(join(".gpu", piece)).size / MIB).toFixed(1);
    console.log(`transfer ${i + 1}: carry .gpu/${piece} (${mib} MiB), run:`);
    console.log(last ? "  sh scripts/gpu-run.sh check && sh scripts/gpu-run.sh bench" : "  true");
  }
  console.log("then, while that machine is kept, carry nothing, run:");
  console.log("  sh scripts/gpu-run.sh train models/pocket/training/3c-unet.json");
  console.log("and copy what comes back in $OUT/weights over the config's model folder.");
}

try {
  main();
} catch (error) {
  say((error as Error).message);
  process.exitCode = 2;
}
