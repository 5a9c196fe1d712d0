/**
 * Tensors to and from the memory of a GPU. The Node binding can't copy one itself (`getData` on it ends the process),
 * but a session moves its inputs and outputs: an Identity whose result is asked for on the other side.
 */
import type * as Ort from "onnxruntime-node";
import type { DType } from "../core/tensor.ts";
import { OPSET } from "../onnx/lower.ts";
import { encodeModel } from "../onnx/proto.ts";
import { onnxruntime } from "./onnxruntime.ts";
import { RuntimeFailure } from "./types.ts";

type Place = "gpu-buffer" | "cpu";

export class GpuTransfer {
  /** By place and rank. They are kept, as their memory is that of the tensors that came out of them. */
  private readonly sessions = new Map<string, Promise<Ort.InferenceSession>>();

  /** Dtypes that the device can't widen to float32. @throws RuntimeFailure without an adapter */
  async unreadable(): Promise<DType[]> {
    const one = new (onnxruntime().Tensor)("float32", Float32Array.of(1), []);
    try {
      (await this.toDevice(one)).dispose();
    } catch (error) {
      const reason = (error as Error).message.split("\n")[0]!.split(" was false. ").at(-1)!;
      throw new RuntimeFailure(
        "E_DEVICE",
        `device "webgpu": needed a GPU that Vulkan, Metal or Direct3D 12 shows, found none (${reason}). Install its driver, or use the CPU.`,
      );
    }
    try {
      const session = await chain([{ to: 10 }, { to: 1 }], "cpu", []); // float16 and back: an adapter may lack shader-f16
      await session.run({ x: one });
      await session.release();
      return ["bfloat16"];
    } catch {
      return ["bfloat16", "float16"];
    }
  }

  /** A copy of a float32 tensor, from wherever it is, in memory of the device that stays. */
  toDevice(tensor: Ort.Tensor): Promise<Ort.Tensor> {
    return this.move(tensor, "gpu-buffer");
  }

  /** The values of a float32 tensor in the device's memory, which stays there. */
  async values(tensor: Ort.Tensor): Promise<Float32Array> {
    return (await this.move(tensor, "cpu")).data as Float32Array;
  }

  private async move(x: Ort.Tensor, to: Place): Promise<Ort.Tensor> {
    const key = `${to} ${x.dims.length}`;
    const session = this.sessions.get(key) ?? identity(x.dims.length, to);
    this.sessions.set(key, session);
    return (await (await session).run({ x })).y!;
  }
}

const identity = (rank: number, place: Place): Promise<Ort.InferenceSession> =>
  chain(
    [undefined],
    place,
    Array.from({ length: rank }, (_, i) => `d${i}`),
  );

/** A session of casts (or of an Identity, for undefined) from float32 to float32. */
function chain(
  casts: readonly ({ readonly to: number } | undefined)[],
  preferredOutputLocation: Place,
  shape: readonly string[],
): Promise<Ort.InferenceSession> {
  const name = (i: number): string => (i === 0 ? "x" : i === casts.length ? "y" : `t${i}`);
  const nodes = casts.map((cast, i) => ({
    opType: cast ? "Cast" : "Identity",
    domain: "",
    inputs: [name(i)],
    outputs: [name(i + 1)],
    attributes: { ...cast },
  }));
  const [x, y] = ["x", "y"].map((n) => ({ name: n, elemType: 1, shape }));
  const model = encodeModel({ nodes, inputs: [x!], outputs: [y!], initializers: [], opset: OPSET });
  return onnxruntime().InferenceSession.create(model, {
    executionProviders: ["webgpu"],
    graphOptimizationLevel: "disabled",
    logSeverityLevel: 4, // what fails here is told in words
    preferredOutputLocation,
  });
}
