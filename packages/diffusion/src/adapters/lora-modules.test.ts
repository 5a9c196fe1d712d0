/** The layers of the real base models, from their configs alone. */
import { expect, test } from "vitest";
import { cloneofsimoOrder } from "./cloneofsimo-layout.ts";
import { knownBase } from "./known-bases.ts";
import { kohyaLayout } from "./kohya-layout.ts";
import { type LoraBase, loraModules } from "./lora-modules.ts";

const SD15 = knownBase(768)!;
const SD21 = knownBase(1024)!;

/** How many layers have a shape, as "out,in" or "out,in,kh,kw". */
function census(base: LoraBase, component: string, path: RegExp): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const m of loraModules(base).filter((l) => l.component === component && path.test(l.path)))
    counts[m.shape.join()] = (counts[m.shape.join()] ?? 0) + 1;
  return counts;
}

test("SD 1.5: as many layers as diffusers' UNet has of torch's Linear and Conv2d", () => {
  expect(loraModules(SD15).filter(({ component }) => component === "unet")).toHaveLength(282);
});

test("SD 1.5: 96 q, k, v matrices of the sizes that the paper's count follows from", () => {
  expect(census(SD15, "unet", /attn[12]\.to_[qkv]$/)).toEqual({
    ...{ "320,320": 20, "640,640": 20, "1280,1280": 24 },
    ...{ "320,768": 10, "640,768": 10, "1280,768": 12 },
  });
});

test("SD 1.5: the other layers that LoRAs name", () => {
  expect(census(SD15, "unet", /to_out\.0$/)).toEqual({ "320,320": 10, "640,640": 10, "1280,1280": 12 });
  expect(census(SD15, "unet", /ff\.net\.0\.proj$/)).toEqual({ "2560,320": 5, "5120,640": 5, "10240,1280": 6 });
  expect(census(SD15, "unet", /ff\.net\.2$/)).toEqual({ "320,1280": 5, "640,2560": 5, "1280,5120": 6 });
  expect(census(SD15, "unet", /proj_(in|out)$/)).toEqual({ "320,320,1,1": 10, "640,640,1,1": 10, "1280,1280,1,1": 12 });
  expect(census(SD15, "unet", /resnets\.\d\.conv[12]$|samplers\.0\.conv$|^conv_(in|out)$/)).toMatchObject({
    ...{ "320,4,3,3": 1, "4,320,3,3": 1, "1280,2560,3,3": 5, "1280,1280,3,3": 20 },
  });
  expect(census(SD15, "text_encoder", /self_attn/)).toEqual({ "768,768": 48 });
  expect(census(SD15, "text_encoder", /mlp/)).toEqual({ "3072,768": 12, "768,3072": 12 });
});

test("SD 2.1: linear projections, 23 layers of text", () => {
  expect(census(SD21, "unet", /attn2\.to_[kv]$/)).toEqual({ "320,1024": 10, "640,1024": 10, "1280,1024": 12 });
  expect(census(SD21, "unet", /proj_(in|out)$/)).toEqual({ "320,320": 10, "640,640": 10, "1280,1280": 12 });
  expect(census(SD21, "text_encoder", /self_attn/)).toEqual({ "1024,1024": 92 });
});

test("cloneofsimo's numbers: 144 in the UNet, the middle block last, and 48 in the text encoder", () => {
  const { unet, text_encoder } = cloneofsimoOrder(loraModules(SD15));
  expect([unet.length, text_encoder.length]).toEqual([144, 48]);
  const block = "down_blocks.0.attentions.0.transformer_blocks.0";
  // read off a published file: 4 is (2560, 320), 6 is (320, 768), 135 to 143 are the middle block's
  expect(unet[4]).toMatchObject({ path: `${block}.ff.net.0.proj`, shape: [2560, 320] });
  expect(unet[6]).toMatchObject({ path: `${block}.attn2.to_k`, shape: [320, 768] });
  expect(unet.slice(135).every(({ path }) => path.startsWith("mid_block."))).toBe(true);
  expect(unet[54]!.path).toBe("up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q");
  expect(text_encoder.slice(0, 4).map(({ path }) => path.split(".").at(-1))).toEqual([
    ...["k_proj", "v_proj", "q_proj", "out_proj"],
  ]);
});

test("no two layers share a name in kohya's keys", () => {
  const modules = loraModules(SD15);
  const names = kohyaLayout.names(modules);
  // the UNet's layers have one name, the text encoder's four: lora_te_ and lora_te1_, with text_model_ and without
  const text = modules.filter(({ component }) => component === "text_encoder").length;
  expect(names.size).toBe(modules.length - text + 4 * text);
  expect(names.get("lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_v")!.shape).toEqual([320, 768]);
  expect(names.get("lora_te_text_model_encoder_layers_11_mlp_fc2")!.shape).toEqual([768, 3072]);
});
