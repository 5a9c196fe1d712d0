import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { toFloat16 } from "./float16.ts";
import {
  readFloats,
  readSafetensorsHeader,
  readTensor,
  readTensorBytes,
  SafetensorsError,
  type TensorToWrite,
  writeSafetensors,
} from "./safetensors.ts";

const folder = mkdtempSync(join(tmpdir(), "likeness-safetensors-"));
afterAll(() => rmSync(folder, { recursive: true }));
const path = (name: string): string => join(folder, name);

/** A file with this header text, and so many bytes of data. */
function forge(header: string | Buffer, data: number | Buffer = 0, length?: number | bigint): string {
  const text = Buffer.from(header as string);
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(BigInt(length ?? text.length));
  const file = path("forged.safetensors");
  writeFileSync(
    file,
    Buffer.concat([head, text, Buffer.alloc(0), typeof data === "number" ? Buffer.alloc(data) : data]),
  );
  return file;
}

function problem(file: string): string {
  try {
    readSafetensorsHeader(file);
  } catch (error) {
    expect(error).toBeInstanceOf(SafetensorsError);
    const text = (error as Error).message;
    expect(text).not.toContain("\n");
    return text.replaceAll(folder, "…");
  }
  throw new Error(`${file} was read, and should have been refused`);
}

const entry = (dtype: unknown, shape: unknown, at: unknown): object => ({ dtype, shape, data_offsets: at });
const AT = "(…/forged.safetensors)";

describe("round trip", () => {
  const tensors: Record<string, TensorToWrite> = {
    "b.weight": { dtype: "F32", shape: [2, 3], data: Float32Array.of(1, -2, 3.5, 1e-30, 1e30, -0) },
    a: { dtype: "I64", shape: [2], data: BigInt64Array.of(-1n, 2n ** 40n) },
    half: { dtype: "F16", shape: [3], data: toFloat16(Float32Array.of(1, 65504, 2 ** -24)) },
    brain: { dtype: "BF16", shape: [2], data: Uint16Array.of(0x3f80, 0xc040) },
    ids: { dtype: "I32", shape: [1, 1], data: Int32Array.of(-7) },
    image: { dtype: "U8", shape: [3], data: Buffer.from([1, 2, 255]) },
    mask: { dtype: "BOOL", shape: [2], data: Uint8Array.of(1, 0) },
    scalar: { dtype: "F32", shape: [], data: Float32Array.of(9) },
    none: { dtype: "F32", shape: [0, 4], data: new Float32Array(0) },
    ["__proto__"]: { dtype: "U8", shape: [1], data: Uint8Array.of(4) },
  };
  Object.defineProperty(tensors, "__proto__", {
    value: { dtype: "U8", shape: [1], data: Uint8Array.of(4) },
    enumerable: true,
  });
  const file = path("all.safetensors");
  writeSafetensors(file, tensors, { made_by: "test", ключ: "日本" });
  const header = readSafetensorsHeader(file);

  test("every dtype comes back", () => {
    expect(header.metadata).toEqual({ made_by: "test", ключ: "日本" });
    expect([...header.tensors.keys()].sort()).toEqual(Object.keys(tensors).sort());
    expect(readTensor(header, "b.weight")).toEqual(tensors["b.weight"]!.data);
    expect(readTensor(header, "a")).toEqual(tensors.a!.data);
    expect(readTensor(header, "half")).toEqual(Float32Array.of(1, 65504, 2 ** -24));
    expect(readTensor(header, "brain")).toEqual(Float32Array.of(1, -3));
    expect(readTensor(header, "ids")).toEqual(Int32Array.of(-7));
    expect(readTensor(header, "image")).toEqual(Uint8Array.of(1, 2, 255));
    expect(readTensor(header, "mask")).toEqual(Uint8Array.of(1, 0));
    expect(readTensor(header, "scalar")).toEqual(Float32Array.of(9));
    expect(readTensor(header, "none")).toEqual(new Float32Array(0));
    expect(readTensor(header, "__proto__")).toEqual(Uint8Array.of(4));
    expect(readTensorBytes(header, "ids")).toEqual(Buffer.from([0xf9, 0xff, 0xff, 0xff]));
    expect(header.tensors.get("b.weight")).toMatchObject({ dtype: "F32", shape: [2, 3], length: 24 });
  });

  test("data start at a multiple of 8, each tensor at one of its own size, and nothing else is in the folder", () => {
    expect(header.dataStart % 8).toBe(0);
    for (const [key, { offset }] of header.tensors)
      expect(offset % (tensors[key]!.data as Uint8Array).BYTES_PER_ELEMENT).toBe(0);
    expect(readdirSync(folder).filter((f) => f.endsWith(".tmp"))).toEqual([]);
  });

  test("the same tensors in another order give the same bytes", () => {
    const again = path("again.safetensors");
    const entries = Object.entries(tensors)
      .reverse()
      .filter(([k]) => k !== "__proto__");
    const some = Object.entries(tensors).filter(([k]) => k !== "__proto__");
    writeSafetensors(again, Object.fromEntries(entries));
    const first = readFileSync(again);
    writeSafetensors(again, Object.fromEntries(some));
    expect(readFileSync(again).equals(first)).toBe(true);
  });
});

test("files of the Python package are read, and written again byte for byte", () => {
  for (const name of ["randn", "schedulers"]) {
    const theirs = fileURLToPath(new URL(`../../../../fixtures/${name}.safetensors`, import.meta.url));
    const header = readSafetensorsHeader(theirs);
    expect(header.metadata.made_by).toBe(`fixtures/make/${name}.py`);
    const tensors = [...header.tensors].map(([key, { dtype, shape }]) => {
      const data = readTensorBytes(header, key);
      return [key, { dtype: dtype as TensorToWrite["dtype"], shape, data }] as const;
    });
    writeSafetensors(path("ours.safetensors"), Object.fromEntries(tensors), header.metadata);
    expect(readFileSync(path("ours.safetensors")).equals(readFileSync(theirs)), name).toBe(true);
  }
});

test("the bytes are those of the format's own description", () => {
  const file = path("bytes.safetensors");
  writeSafetensors(file, { x: { dtype: "F16", shape: [1, 2], data: Uint16Array.of(0x3c00, 0xc000) } });
  const header = '{"x":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]}}';
  expect(readFileSync(file).toString("latin1")).toBe(
    `${String.fromCharCode(56)}\0\0\0\0\0\0\0${header}\x00\x3c\x00\xc0`,
  );
});

describe("refused, with the reason in one line", () => {
  const json = (o: object): string => JSON.stringify(o);
  const cases: [name: string, make: () => string, text: string][] = [
    [
      "no file",
      () => path("nowhere.safetensors"),
      "weights (…/nowhere.safetensors): needed a .safetensors file, found no such file. Check the path.",
    ],
    ["folder", () => folder, "weights (…): needed a .safetensors file, found a folder."],
    [
      "empty file",
      () => {
        writeFileSync(path("forged.safetensors"), "");
        return path("forged.safetensors");
      },
      `weights ${AT}: needed at least 8 bytes, found 0. The file is cut off: fetch it again.`,
    ],
    [
      "huge header length",
      () => forge("{}", 0, 2n ** 63n),
      `header ${AT}: needed at most 2 bytes, found 9223372036854776000. The file is cut off, or no .safetensors file: fetch it again.`,
    ],
    [
      "header beyond the end",
      () => forge("{}", 0, 3),
      `header ${AT}: needed at most 2 bytes, found 3. The file is cut off, or no .safetensors file: fetch it again.`,
    ],
    [
      "Git LFS pointer",
      () => {
        writeFileSync(path("forged.safetensors"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
        return path("forged.safetensors");
      },
      `header ${AT}: needed at most 48 bytes, found 2336927755350992400. This is a Git LFS pointer: run \`git lfs pull\`.`,
    ],
    [
      "no JSON",
      () => forge("{oops"),
      `header ${AT}: needed JSON in UTF-8, found something else. This is no .safetensors file, or it is damaged.`,
    ],
    [
      "no UTF-8",
      () => forge(Buffer.from('{"\xff":1}', "latin1")),
      `header ${AT}: needed JSON in UTF-8, found something else. This is no .safetensors file, or it is damaged.`,
    ],
    [
      "list",
      () => forge("[]"),
      `header ${AT}: needed a JSON object, found []. This is no .safetensors file, or it is damaged.`,
    ],
    [
      "space before it",
      () => forge(" {}"),
      `header ${AT}: needed a JSON object, found an object. This is no .safetensors file, or it is damaged.`,
    ],
    [
      "a key twice, one of them disguised",
      () => {
        const one = json(entry("U8", [1], [0, 1]));
        return forge(`{"k":${one}, "\\u006b"${" ".repeat(40)}:${one}}`, 1);
      },
      `"k" ${AT}: needed each key once, found it twice in the header. Don't trust this file.`,
    ],
    [
      "a field twice",
      () => forge('{"k":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"shape":[1]}}', 1),
      `"shape" ${AT}: needed each key once, found it twice in the header. Don't trust this file.`,
    ],
    [
      "dtype",
      () => forge(json({ k: entry("constructor", [1], [0, 1]) }), 1),
      `"k" ${AT}: needed a dtype of U64, I64, F64, F32, U32, I32, BF16, F16, U16, I16, F8_E4M3, F8_E5M2, I8, U8, BOOL, found "constructor".`,
    ],
    [
      "entry null",
      () => forge('{"k":null}'),
      `"k" ${AT}: needed a dtype of U64, I64, F64, F32, U32, I32, BF16, F16, U16, I16, F8_E4M3, F8_E5M2, I8, U8, BOOL, found nothing.`,
    ],
    [
      "negative shape",
      () => forge(json({ k: entry("U8", [-1], [0, 1]) }), 1),
      `"k" ${AT}: needed a shape of whole numbers, none below 0, found [-1].`,
    ],
    [
      "broken shape",
      () => forge(json({ k: entry("U8", [1.5], [0, 1]) }), 1),
      `"k" ${AT}: needed a shape of whole numbers, none below 0, found [1.5].`,
    ],
    [
      "offsets",
      () => forge(json({ k: entry("U8", [1], [0]) }), 1),
      `"k" ${AT}: needed data_offsets [begin, end], found [0].`,
    ],
    [
      "offsets backwards",
      () => forge(json({ k: entry("U8", [1], [1, 0]) }), 1),
      `"k" ${AT}: needed data_offsets [begin, end], found [1, 0].`,
    ],
    [
      "size",
      () => forge(json({ k: entry("F32", [2], [0, 4]) }), 4),
      `"k" ${AT}: needed 8 bytes for F32 of shape [2], found 4.`,
    ],
    [
      "a shape that overflows to a fitting size",
      () => forge(json({ k: entry("U8", [2 ** 32, 2 ** 32], [0, 0]) })),
      `"k" ${AT}: needed 18446744073709552000 bytes for U8 of shape [4294967296, 4294967296], found 0.`,
    ],
    [
      "cut off",
      () => forge(json({ k: entry("U8", [9], [0, 9]) }), 4),
      `"k" ${AT}: needed data up to byte 70, found a file of 65 bytes. The file is cut off: fetch it again.`,
    ],
    [
      "overlap",
      () => forge(json({ k: entry("U8", [2], [0, 2]), l: entry("U8", [2], [1, 3]) }), 3),
      `"l" ${AT}: needed data from byte 115, where "k" ends, found 114. The two overlap: don't trust this file.`,
    ],
    [
      "hole",
      () => forge(json({ k: entry("U8", [2], [1, 3]) }), 3),
      `"k" ${AT}: needed data from byte 61, where header ends, found 62. Bytes between them belong to no tensor: don't trust this file.`,
    ],
    [
      "bytes to spare",
      () => forge(json({ k: entry("U8", [2], [0, 2]) }), 3),
      `data ${AT}: needed an end at byte 63, found 64 bytes. Fetch the file again.`,
    ],
    ["metadata", () => forge('{"__metadata__":[]}'), `__metadata__ ${AT}: needed an object of strings, found [].`],
    ["metadata values", () => forge('{"__metadata__":{"n":1}}'), `__metadata__."n" ${AT}: needed a string, found 1.`],
    [
      "a key that would write on the terminal",
      () => forge(json({ "\u001b[2J\n": entry("U8", [-1], [0, 1]) }), 1),
      `"\\u001b[2J\\n" ${AT}: needed a shape of whole numbers, none below 0, found [-1].`,
    ],
    [
      "deep nesting",
      () => forge(`{"k":{"dtype":${"[".repeat(20000)}${"]".repeat(20000)}}}`),
      `"k" ${AT}: needed a dtype of U64, I64, F64, F32, U32, I32, BF16, F16, U16, I16, F8_E4M3, F8_E5M2, I8, U8, BOOL, found […].`,
    ],
  ];
  test.each(cases)("%s", (_name, make, text) => expect(problem(make())).toBe(`${text} [E_SAFETENSORS]`));
});

describe("reading and writing what isn't so", () => {
  test("a missing key, a dtype that isn't floating point", () => {
    const file = forge(JSON.stringify({ k: entry("U8", [1], [0, 1]) }), 1);
    const header = readSafetensorsHeader(file);
    expect(() => readTensor(header, "q")).toThrow('"q" (');
    expect(() => readTensor(header, "q")).toThrow("needed this tensor, found 1 tensors of other names.");
    expect(() => readFloats(header, "k")).toThrow("needed F32, F16 or BF16, found U8.");
  });

  test("data of another size are refused and leave no file", () => {
    const file = path("refused.safetensors");
    const tensor: TensorToWrite = { dtype: "F32", shape: [3], data: new Float32Array(2) };
    expect(() => writeSafetensors(file, { k: tensor })).toThrow("needed 12 bytes for F32 of shape [3], found 8.");
    expect(() => writeSafetensors(file, { __metadata__: tensor })).toThrow("needed a name of its own");
    expect(existsSync(file)).toBe(false);
  });
});
