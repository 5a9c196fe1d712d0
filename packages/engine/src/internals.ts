export { lower } from "./onnx/lower.ts";
