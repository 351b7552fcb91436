import type Docker from "dockerode";
import { z } from "zod";
import { exec } from "../docker/exec";
import { parseAnswer } from "./client";

const natural = z.int().nonnegative();

const copiesSchema = z.object({
  tenant: z.string(),
  /** When the newest base backup in the bucket was begun, in seconds since 1970; 0 without one. */
  base: natural,
  /** As of when all WAL is there; 0 when it never was. */
  wal: natural,
  /** Segments that wait. */
  waiting: natural,
  /** Why copying fails; null when it does not. */
  problem: z.string().max(1000).nullable(),
});

/** The state of the copies of one tenant's backups off the host. */
export type OffsiteCopies = z.infer<typeof copiesSchema>;

/** Of all tenants, by id. @param container it has to run @throws Error when it gives no answer */
export async function offsiteCopies(container: Docker.Container): Promise<Map<string, OffsiteCopies>> {
  const { stdout, stderr } = await exec(container, ["pgs-offsite", "status"], { seconds: 20 });
  const { tenants } = parseAnswer(z.object({ tenants: z.array(copiesSchema).max(10_000) }), stdout, stderr);
  return new Map(tenants.map((copies) => [copies.tenant, copies]));
}
