export { FIXTURES, type Golden, readGolden, relativeError } from "./golden.ts";
export { ramp, vjpError } from "./gradient-check.ts";
export { meanOf, readLog } from "./log.ts";
export { webgpuMissing } from "./webgpu.ts";
