/** The dozen protobuf messages of an ONNX model, written directly. Field numbers: onnx/onnx.proto. */

export type AttributeValue = number | string | readonly number[] | { readonly float: number };

export interface NodeProto {
  readonly opType: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, AttributeValue>>;
}

export interface ValueProto {
  readonly name: string;
  readonly elemType: number;
  /** A string names an extent that each run decides; undefined if not even the rank is told. */
  readonly shape: readonly (number | string)[] | undefined;
}

export interface InitializerProto {
  readonly name: string;
  readonly elemType: number;
  readonly shape: readonly number[];
  readonly data: Uint8Array | { readonly location: string; readonly offset: number; readonly length: number };
}

export interface ModelProto {
  readonly nodes: readonly NodeProto[];
  readonly inputs: readonly ValueProto[];
  readonly outputs: readonly ValueProto[];
  readonly initializers: readonly InitializerProto[];
  readonly opset: number;
}

/** Bytes that a message's length takes, whatever it is: it is known last, and protobuf reads a varint with more bytes than it needs. */
const LENGTH_BYTES = 5;

class Writer {
  private buffer = Buffer.allocUnsafe(1 << 20);
  private length = 0;

  private room(n: number): void {
    if (this.length + n <= this.buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(2 * this.buffer.length, this.length + n));
    this.buffer.copy(larger, 0, 0, this.length);
    this.buffer = larger;
  }

  private varint(value: number): void {
    this.room(10);
    if (value < 0) {
      // int64 in two's complement: ten bytes
      let v = BigInt.asUintN(64, BigInt(value));
      for (; v > 127n; v >>= 7n) this.buffer[this.length++] = Number(v & 127n) | 128;
      this.buffer[this.length++] = Number(v);
    } else {
      let v = value;
      for (; v > 127; v = Math.floor(v / 128)) this.buffer[this.length++] = (v % 128) | 128;
      this.buffer[this.length++] = v;
    }
  }

  int(field: number, value: number): this {
    this.varint(field * 8);
    this.varint(value);
    return this;
  }

  float(field: number, value: number): this {
    this.varint(field * 8 + 5);
    this.room(4);
    this.length = this.buffer.writeFloatLE(value, this.length);
    return this;
  }

  bytes(field: number, value: Uint8Array | string): this {
    if (typeof value === "string") return this.text(field, value);
    this.varint(field * 8 + 2);
    this.varint(value.length);
    this.room(value.length);
    this.buffer.set(value, this.length);
    this.length += value.length;
    return this;
  }

  /** Byte by byte: there are tens of thousands of short ASCII strings, and each call into Buffer costs more than its bytes. */
  private text(field: number, value: string): this {
    const [from, n] = [this.length, value.length];
    this.varint(field * 8 + 2);
    this.varint(n);
    this.room(n);
    for (let i = 0; i < n; i++) {
      const code = value.charCodeAt(i);
      if (code > 127) {
        this.length = from;
        return this.bytes(field, Buffer.from(value));
      }
      this.buffer[this.length++] = code;
    }
    return this;
  }

  message(field: number, write: (w: Writer) => void): this {
    this.varint(field * 8 + 2);
    this.room(LENGTH_BYTES);
    const from = this.length + LENGTH_BYTES;
    this.length = from;
    write(this);
    let n = this.length - from;
    for (let i = LENGTH_BYTES; i > 0; i--, n = Math.floor(n / 128))
      this.buffer[from - i] = (n % 128) | (i > 1 ? 128 : 0);
    return this;
  }

  /** What was written; the writer is done with. */
  finish(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }
}

function attribute(w: Writer, name: string, value: AttributeValue): void {
  w.bytes(1, name);
  if (typeof value === "string") w.bytes(4, value).int(20, 3);
  else if (typeof value === "number") w.int(3, value).int(20, 2);
  else if ("float" in value) w.float(2, value.float).int(20, 1);
  else {
    for (const i of value) w.int(8, i);
    w.int(20, 7);
  }
}

function node(w: Writer, n: NodeProto): void {
  for (const x of n.inputs) w.bytes(1, x);
  for (const y of n.outputs) w.bytes(2, y);
  w.bytes(4, n.opType);
  for (const [name, value] of Object.entries(n.attributes)) w.message(5, (a) => attribute(a, name, value));
  if (n.domain) w.bytes(7, n.domain);
}

function valueInfo(w: Writer, { name, elemType, shape }: ValueProto): void {
  const extents = (w: Writer): void => {
    for (const d of shape!) w.message(1, (dim) => (typeof d === "string" ? dim.bytes(2, d) : dim.int(1, d)));
  };
  w.bytes(1, name).message(2, (type) =>
    type.message(1, (tensor) => {
      tensor.int(1, elemType);
      if (shape) tensor.message(2, extents);
    }),
  );
}

const initializer = (w: Writer, t: InitializerProto): void => {
  for (const d of t.shape) w.int(1, d);
  w.int(2, t.elemType).bytes(8, t.name);
  const { data } = t;
  if (data instanceof Uint8Array) {
    w.bytes(9, data);
    return;
  }
  for (const [key, entry] of Object.entries(data)) w.message(13, (e) => e.bytes(1, key).bytes(2, String(entry)));
  w.int(14, 1);
};

/** The bytes of the model, as ONNX Runtime reads them. */
export function encodeModel(model: ModelProto): Uint8Array {
  const w = new Writer();
  w.int(1, 10).bytes(2, "likeness");
  w.message(7, (g) => {
    for (const n of model.nodes) g.message(1, (m) => node(m, n));
    g.bytes(2, "graph");
    for (const t of model.initializers) g.message(5, (m) => initializer(m, t));
    for (const v of model.inputs) g.message(11, (m) => valueInfo(m, v));
    for (const v of model.outputs) g.message(12, (m) => valueInfo(m, v));
  });
  w.message(8, (o) => o.bytes(1, "").int(2, model.opset));
  w.message(8, (o) => o.bytes(1, "com.microsoft").int(2, 1));
  return w.finish();
}
