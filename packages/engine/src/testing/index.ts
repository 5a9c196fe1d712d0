export { ramp, vjpError } from "./gradient-check.ts";
