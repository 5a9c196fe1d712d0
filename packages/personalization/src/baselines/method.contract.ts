/** What every method keeps to, whatever it does. */
import { attentionMatrices, type StableDiffusionModel } from "@likeness/diffusion";
import { expect, test } from "vitest";
import type { Photo } from "../photo.ts";
import type { Method, TeachOptions } from "./method.ts";

export interface ContractSubject {
  readonly method: Method;
  readonly model: StableDiffusionModel;
  readonly photo: Photo;
  readonly options: TeachOptions;
}

/** Tests of one method that can be run. */
export function testMethodContract(subject: () => ContractSubject): void {
  test("gives a whole concept for its model, under <S*>, with finite values; and again for the same seed", async () => {
    const { method, model, photo, options } = subject();
    const concept = await method.teach(photo, options);
    expect(concept).toMatchObject({ token: "<S*>", base: model.fingerprint, baseName: model.name });
    expect(concept.embedding).toHaveLength(model.textEncoder.config.hidden_size);
    const matrices = attentionMatrices(model.unet.config);
    expect(concept.factors).toHaveLength(matrices.length);
    for (const [i, { a, b }] of concept.factors.entries()) {
      expect(a).toHaveLength(matrices[i]!.dIn * concept.rank);
      expect(b).toHaveLength(matrices[i]!.dOut * concept.rank);
    }
    const all = [concept.embedding, ...concept.factors.flatMap(({ a, b }) => [a, b])];
    expect(all.every((values) => values.every(Number.isFinite))).toBe(true);
    expect(concept.hardToken).not.toBe("");
    expect(await method.teach(photo, options)).toEqual(concept);
  });

  test("is stopped by its signal", async () => {
    const { method, photo, options } = subject();
    const signal = AbortSignal.abort(new Error("stopped"));
    if (method.settings.steps === 0) return; // over at once
    await expect(method.teach(photo, { ...options, signal })).rejects.toThrow("stopped");
  });
}
