/** transformers' CLIPEncoder: the transformer that both towers share. */
import { add, attention, gelu, geluTanh, type Init, quickGelu, type Tensor, type Weights } from "@likeness/engine";
import { mergeHeads, splitHeads } from "./attention.ts";
import { layerNormLayer, linearLayer } from "./layers.ts";

export interface CLIPEncoderConfig {
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly layer_norm_eps: number;
  readonly hidden_act: "quick_gelu" | "gelu" | "gelu_pytorch_tanh";
}

const ACTIVATIONS = { quick_gelu: quickGelu, gelu, gelu_pytorch_tanh: geluTanh };

/** x (B, N, D) → hidden states before the first layer, after each, num_hidden_layers + 1 in all. */
export function clipEncoder(w: Weights, x: Tensor, config: CLIPEncoderConfig, mask?: Tensor): Tensor[] {
  const states = [x];
  for (let i = 0; i < config.num_hidden_layers; i++)
    states.push(clipEncoderLayer(w.at("layers").at(String(i)), states[i]!, config, mask));
  return states;
}

function clipEncoderLayer(w: Weights, x: Tensor, config: CLIPEncoderConfig, mask: Tensor | undefined): Tensor {
  const { hidden_size: d, layer_norm_eps: eps, num_attention_heads: heads, num_hidden_layers: layers } = config;
  // start values as in transformers' CLIP: the residual stream keeps its size through the layers
  const depth = (2 * layers) ** -0.5;
  const into: Init = { kind: "normal", std: d ** -0.5 * depth };
  const out: Init = { kind: "normal", std: d ** -0.5 };
  const n1 = layerNormLayer(w.at("layer_norm1"), x, { eps });
  const a = w.at("self_attn");
  const project = (name: string): Tensor => splitHeads(linearLayer(a.at(name), n1, d, { init: into }), heads);
  const attended = attention(project("q_proj"), project("k_proj"), project("v_proj"), mask && { mask });
  let h = add(x, linearLayer(a.at("out_proj"), mergeHeads(attended), d, { init: out }));
  const m = w.at("mlp");
  const inner = linearLayer(m.at("fc1"), layerNormLayer(w.at("layer_norm2"), h, { eps }), config.intermediate_size, {
    init: { kind: "normal", std: (2 * d) ** -0.5 },
  });
  h = add(h, linearLayer(m.at("fc2"), ACTIVATIONS[config.hidden_act](inner), d, { init: into }));
  return h;
}
