/** Entry point of the child process: one Host, driven by messages in order. */
import type { Device } from "../onnx/builder.ts";
import { Host } from "./host.ts";

type Method = "ready" | "write" | "read" | "compile" | "run" | "release";
interface Request {
  readonly id: number;
  readonly method: Method;
  readonly args: unknown[];
}

const [device, threads] = process.argv.slice(2);
let host: Host | undefined;
let queue: Promise<void> = Promise.resolve();

process.on("message", (request: Request) => {
  queue = queue.then(() => answer(request));
});
process.on("disconnect", () => process.exit(0));
process.on("SIGINT", () => {}); // Ctrl-C reaches the whole group; the parent decides when this process ends

/** The parent may be gone by the time that a run ends: then there is nobody to tell, and "disconnect" ends this process. */
const reply = (message: object): unknown => process.send!(message, undefined, undefined, () => {});

async function answer({ id, method, args }: Request): Promise<void> {
  try {
    host ??= new Host(device as Device, Number(threads));
    const call = host[method] as (...a: unknown[]) => unknown;
    reply({ id, result: await call.apply(host, args) });
  } catch (error) {
    const { message, code } = error as Error & { code?: string };
    reply({ id, error: { message, code } });
  }
}
