/** Trains the pocket model's vocabulary: every word that a caption can hold becomes one token. */
import { PictureFile, trainBpe, writeTokenizer } from "@likeness/diffusion";
import { vocabulary, wordsOf } from "@likeness/world";

const counts = new Map(vocabulary().map((word) => [word, 1]));
const data = new PictureFile("data/world/train.safetensors");
for (const caption of data.list("captions"))
  for (const word of wordsOf(caption)) counts.set(word, (counts.get(word) ?? 0) + 1);
const words = [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
const bpe = trainBpe(words);
writeTokenizer("models/pocket/tokenizer", bpe, { modelMaxLength: 32 });
process.stdout.write(`${words.length} words, ${Object.keys(bpe.vocab).length} tokens\n`);
