export { CLIPTokenizer, type CLIPTokenizerData, type EncodeOptions, type Encoding, type SpecialToken } from "./clip.ts";
export { openaiCLIPTokenizer } from "./clip-vocabulary.ts";
export { TokenizerError } from "./error.ts";
export { loadCLIPTokenizer } from "./load.ts";
export {
  type TokenizerFileOptions,
  type TrainedBpe,
  type TrainOptions,
  tokenizerFiles,
  trainBpe,
  writeTokenizer,
} from "./train-bpe.ts";
