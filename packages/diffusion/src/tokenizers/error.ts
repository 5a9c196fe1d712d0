/** Tokenizer files are missing or damaged, or a token cannot be added. */
export class TokenizerError extends Error {
  override readonly name = "TokenizerError";
  readonly code = "E_TOKENIZER";
  constructor(message: string) {
    super(`${message} [E_TOKENIZER]`);
  }
}
