/** What a checkpoint in one file holds, in words. */
import { describeCheckpoint } from "@likeness/diffusion";
import type { SafetensorsHeader } from "@likeness/engine";

/** undefined for a file of another layout. */
export function checkpointText(header: SafetensorsHeader): string | undefined {
  const report = describeCheckpoint(header);
  if (!report) return undefined;
  if (report.family) return `checkpoint in one file: ${report.family}, which can't be a base model here`;
  const { generation, predictionType, parts, missing } = report;
  const told = header.metadata["modelspec.prediction_type"] === undefined && generation === "2.x";
  const predicts = `predicts ${predictionType}${told ? " unless told otherwise (--prediction-type)" : ""}`;
  const rest = missing.length ? `; without ${missing.join(", ")}: can't be a base model` : "";
  return `checkpoint of Stable Diffusion ${generation} in one file (LDM layout): ${parts.join(", ")}; ${predicts}${rest}`;
}
