/** Text chunks of PNG files: tEXt for Latin-1, iTXt for all else. Format: W3C PNG, section 11.3.3. */
import { crc32 } from "node:zlib";

const SIGNATURE = 8; // bytes
const IHDR_END = SIGNATURE + 12 + 13;

/** The file with a text chunk after its header. */
export function insertText(png: Uint8Array, keyword: string, text: string): Buffer {
  return Buffer.concat([png.subarray(0, IHDR_END), textChunk(keyword, text), png.subarray(IHDR_END)]);
}

function textChunk(keyword: string, text: string): Buffer {
  const latin1 = /^[\n\x20-\x7e\xa0-\xff]*$/.test(text);
  const head = Buffer.from(latin1 ? `${keyword}\0` : `${keyword}\0\0\0\0\0`, "latin1"); // plain, no language
  return chunk(latin1 ? "tEXt" : "iTXt", Buffer.concat([head, Buffer.from(text, latin1 ? "latin1" : "utf8")]));
}

function chunk(type: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0);
  out.set(body, 4);
  out.writeUInt32BE(crc32(body), body.length + 4);
  return out;
}

/** The uncompressed texts of a PNG file by keyword. */
export function readTexts(png: Buffer): Record<string, string> {
  const texts: Record<string, string> = {};
  for (let at = SIGNATURE; at + 8 <= png.length; ) {
    const length = png.readUInt32BE(at);
    const type = png.toString("latin1", at + 4, at + 8);
    const data = png.subarray(at + 8, at + 8 + length);
    const end = data.indexOf(0);
    const keyword = data.toString("latin1", 0, end);
    if (type === "tEXt") texts[keyword] = data.toString("latin1", end + 1);
    if (type === "iTXt" && data[end + 1] === 0) {
      const translated = data.indexOf(0, end + 3) + 1; // after the language
      texts[keyword] = data.toString("utf8", data.indexOf(0, translated) + 1);
    }
    at += 12 + length;
  }
  return texts;
}
