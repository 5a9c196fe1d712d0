/** Ctrl-C: asks the command to stop, and ends the process within a second whether it does or not. */

const PATIENCE = 700; // ms between asking and ending

export interface Interrupt {
  readonly signal: AbortSignal;
  /** 130 after Ctrl-C, 143 after SIGTERM, undefined if neither came. */
  exitCode(): number | undefined;
}

/** Temporary files of writes under way are removed by their own exit handlers. */
export function listenForInterrupt(): Interrupt {
  const controller = new AbortController();
  let code: number | undefined;
  const stop = (exitCode: number): void => {
    if (code !== undefined) process.exit(code); // asked twice
    code = exitCode;
    controller.abort(new Error("interrupted"));
    setTimeout(() => process.exit(exitCode), PATIENCE).unref();
  };
  process.on("SIGINT", () => stop(130));
  process.on("SIGTERM", () => stop(143));
  return { signal: controller.signal, exitCode: () => code };
}
