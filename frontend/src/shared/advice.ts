import { plainMessage } from "./format.ts";

const FIELDS: Readonly<Record<string, string>> = { voxel_size: "the voxel size", channel: "the channel" };

/** An error of the library, with the field of the page in place of the parameter that helps. */
export function adviceInPage(error: string): string {
  const advice = /^(.*?)[;,] (?:give|set) `?(voxel_size|channel)`?/s.exec(error);
  if (!advice) return plainMessage(error);
  const [, problem, parameter] = advice as unknown as [string, string, string];
  return `${plainMessage(problem)}: enter ${FIELDS[parameter]} under Options, and upload it again.`;
}
