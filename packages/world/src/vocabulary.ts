import { PLACE_NAMES, PLAIN_NAMES, placeBy } from "./backgrounds.ts";
import { PHRASES } from "./grammar.ts";
import { plural } from "./nouns.ts";
import { type Split, subjects } from "./subjects.ts";

/** Ordinary words that no caption has, so that the nearest word of something new can be a word of its own. */
const ORDINARY = `
gold golden silver bronze crimson scarlet violet indigo navy teal cyan magenta beige cream ivory olive maroon lime coral peach mint
dark bright pale light deep vivid dull colorful striped spotted dotted checked plain shiny matte glossy transparent smooth rough fuzzy
fluffy furry hairy soft hard round square oval long short tall wide narrow thick thin flat curved pointed sharp curly straight twisted
wood wooden metal steel iron copper plastic rubber glass paper cardboard leather wool cotton silk velvet stone marble clay ceramic
porcelain concrete brick sand water fire smoke wax crystal diamond pearl straw bamboo fur feather bone shell plush stuffed knitted
toy doll statue figure sculpture mask puppet model robot machine device tool gadget animal creature beast pet bird insect fish monster
dinosaur dragon person man woman child boy girl baby face head body eye nose mouth ear hand arm leg foot tail wing horn beak claw paw
beard hair smile mammal reptile amphibian bug plant tree bush leaf branch root seed grass flower petal fruit berry vegetable nut grain
food meal snack dessert cake sweet drink juice coffee tea milk soup cup mug glass bowl plate bottle can jar box bag basket bucket pot
pan knife fork spoon house home building tower bridge castle church temple shop school office door window wall roof floor ceiling
room garden park street road path field hill valley river lake sea ocean island coast sky sun moon star planet cloud rain storm wind
ice winter summer spring autumn morning noon evening night day light shadow vehicle car truck van bus train tram boat ship plane
aircraft bicycle motorbike wheel engine furniture chair table bed sofa lamp clock shelf curtain carpet mirror picture frame book
page letter pen pencil brush paint ink phone computer screen keyboard camera radio speaker music song instrument drum guitar piano
ball bat racket net game card dice puzzle kite clothes shirt coat jacket trousers skirt shoe boot sock hat cap helmet glove ring
necklace watch belt bow ribbon button pocket umbrella gift present money coin key lock chain rope wire nail screw hammer saw axe
photo photograph picture image drawing sketch painting illustration render icon emoji logo sticker poster print pattern texture
background foreground scene view portrait closeup detail style art artwork digital vintage modern old new ancient young beautiful
pretty cute funny happy sad angry sleepy scary strange clean dirty broken empty full open closed hot cold wet dry sweet sour
standing sitting lying running jumping flying swimming sleeping eating drinking playing holding looking walking riding hanging
above below behind inside outside under over near far between around through without very many few some another other same
one four five six seven eight nine ten first second half whole single double my your our their this that these those it is are was
has have from by for up down out off into onto like made shaped colored`;

export interface VocabularyOptions {
  /** whose names count; all by default */
  readonly splits?: readonly Split[];
}

/** Every word that a caption can have, and a few hundred ordinary ones, sorted, without repeats. */
export function vocabulary({ splits = ["train", "validation", "held-out"] }: VocabularyOptions = {}): string[] {
  const words = new Set<string>();
  const add = (text: string): void => {
    for (const word of wordsOf(text)) words.add(word);
  };
  add("a an");
  add(ORDINARY);
  for (const subject of subjects()) {
    if (!splits.includes(subject.split)) continue;
    for (const name of [subject.name, subject.kind]) add(`${name} ${plural(name)}`);
  }
  for (const name of [...PLACE_NAMES, ...PLAIN_NAMES]) {
    const place = placeBy(name);
    for (const text of [...place.phrases, ...place.nouns]) add(text);
  }
  addAll(PHRASES, add);
  return [...words].sort();
}

/** The words of a caption, in order; commas are no words. */
export function wordsOf(text: string): string[] {
  return text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
}

function addAll(node: unknown, add: (text: string) => void): void {
  if (typeof node === "string") add(node);
  else if (node !== null && typeof node === "object") for (const child of Object.values(node)) addAll(child, add);
}
