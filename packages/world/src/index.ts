/** Emoji art from the npm registry as captioned scenes: see README.md. */
export { PLACE_NAMES, PLAIN_NAMES, type Place, paintPlace, placeBy } from "./backgrounds.ts";
export { type DatasetOptions, drawScenes, renderReference, sceneAt, writeDataset } from "./dataset.ts";
export { type EvaluationSetOptions, evaluationContent, writeEvaluationSet } from "./evaluation.ts";
export { caption, PHRASES, randomScene } from "./grammar.ts";
export { applyLook, LOOKS, type Look } from "./looks.ts";
export { isUncounted, plural, withArticle } from "./nouns.ts";
export { Random } from "./random.ts";
export { renderPhoto, renderScene } from "./render.ts";
export { ITEMS, type Item, type Manner, POSITIONS, type Position, type Scene, SIZES, type Size } from "./scene.ts";
export { type Tile, writeSheet } from "./sheet.ts";
export { drawSprites, openSprites, rasterize, type Sprite, Sprites } from "./sprites.ts";
export { HANDS, type Hand, type Split, type Subject, splitNames, subjectBy, subjects, subjectsOf } from "./subjects.ts";
export { vocabulary, wordsOf } from "./vocabulary.ts";
