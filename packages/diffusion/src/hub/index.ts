export type { RemoteFile } from "./blobs.ts";
export { type Pulled, type PullOptions, type PullPlan, pull } from "./pull.ts";
