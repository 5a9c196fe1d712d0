export * from "./config/parse.ts";
export * from "./config/vae.ts";
export * from "./models/attention.ts";
export * from "./models/autoencoder-kl.ts";
export * from "./models/layers.ts";
export * from "./models/resnet.ts";
export * from "./models/transformer-2d.ts";
